// Use: node validate.mjs FILE…      Prints, as one JSON array, what the parser says of each file.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

import { Parser } from "@asyncapi/parser";

const severities = ["error", "warning", "information", "hint"];

const said = await Promise.all(
  process.argv.slice(2).map(async (file) => {
    const path = resolve(file);
    const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"), { source: path });
    return {
      diagnostics: diagnostics.map((one) => ({
        severity: severities[one.severity],
        code: String(one.code),
        path: one.path.join("/"),
        message: one.message,
      })),
      messages: document ? document.allMessages().all().map((one) => ({ name: one.name(), payload: one.payload().json() })) : [],
    };
  }),
);
process.stdout.write(JSON.stringify(said));

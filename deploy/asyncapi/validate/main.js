// Parses and validates AsyncAPI documents: node main.js FILE...
// Prints the parser's errors and warnings and fails if there are any; hints of style are left out.
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import parser from '@asyncapi/parser';

const [ERROR, WARNING] = [0, 1];
let failed = false;
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await new parser.Parser().parse(await readFile(file, 'utf8'));
  const faults = diagnostics.filter(({ severity }) => severity === ERROR || severity === WARNING);
  for (const { message, path } of faults) console.error(`${basename(file)}: ${path.join('/')}: ${message}`);
  failed ||= faults.length > 0 || document === undefined;
  if (document) {
    const [channels, messages] = [document.channels().length, document.allMessages().length];
    console.log(`${basename(file)}: AsyncAPI ${document.version()}, ${channels} channels, ${messages} messages`);
  }
}
process.exitCode = failed ? 1 : 0;

// Joins the declarations that tsc writes into one file, which holds what the index exports and what that refers to, and
// nothing of the inside. It rests on names being unique over all modules, and says where they are not.
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import ts from 'typescript';

/** Gives the text of the one file, from the declarations of the index. */
export async function joinDeclarations(index) {
  const declared = new Map();
  const seen = new Set();
  const exports = [];

  async function read(file) {
    if (seen.has(file)) return;
    seen.add(file);
    const source = ts.createSourceFile(file, await readFile(file, 'utf8'), ts.ScriptTarget.Latest, true);
    for (const statement of source.statements) {
      const from = statement.moduleSpecifier?.text;
      if (from?.startsWith('.')) await read(join(dirname(file), from.replace(/\.js$/, '.d.ts')));
      if (ts.isExportDeclaration(statement) && file === index && from) {
        exports.push(...statement.exportClause.elements.map((element) => ({ name: element.name.text, text: element.getText() })));
      }
      for (const name of namesOf(statement)) {
        if (declared.has(name)) throw new Error(`${name} is declared twice: rename one of them`);
        declared.set(name, statement);
      }
    }
  }
  await read(index);

  const wanted = new Set();
  const want = (node) => {
    if (refers(node) && declared.has(node.text) && !wanted.has(declared.get(node.text))) {
      wanted.add(declared.get(node.text));
      want(declared.get(node.text));
    }
    ts.forEachChild(node, want);
  };
  for (const { name } of exports) {
    wanted.add(declared.get(name));
    want(declared.get(name));
  }
  const statements = [...new Set(declared.values())].filter((statement) => wanted.has(statement));
  const text = statements.map((statement) => statement.getFullText().trim().replace(/^export /m, '')).join('\n');
  return `${text}\nexport { ${exports.map((each) => each.text).join(', ')} };\n`.replace(/^(?: {4})+/gm, (indent) => '\t'.repeat(indent.length / 4));
}

/** Whether a node is the name of a type that is used, and not that of a member. */
function refers(node) {
  const { parent } = node;
  return ts.isIdentifier(node) && (ts.isTypeReferenceNode(parent) || ts.isExpressionWithTypeArguments(parent) || ts.isTypeQueryNode(parent));
}

function namesOf(statement) {
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.map((declaration) => declaration.name.text);
  return statement.name && !ts.isImportDeclaration(statement) ? [statement.name.text] : [];
}

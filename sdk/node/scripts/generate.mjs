// Writes what the SDK knows of the contract, into src/contract. With --check nothing is written, and what is not fresh fails.
//
//   types.ts   every schema, and query and body of each operation: what the package publishes
//   calls.ts   path and answer of each operation
//   routes.ts  how each operation is called
import { readFile, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';
import { parse } from 'yaml';

const contract = new URL('../../../docs/openapi.yaml', import.meta.url);
const folder = new URL('../src/contract/', import.meta.url);
const methods = ['get', 'put', 'post', 'delete', 'patch'];
const note = '// Generated from docs/openapi.yaml by scripts/generate.mjs (npm run generate). Not to be edited.\n\n';

const spec = parse(await readFile(contract, 'utf8'));
const operations = Object.entries(spec.paths).flatMap(([path, item]) =>
  methods.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })),
);
const files = { ...(await types()), 'routes.ts': note + routes() };

const stale = [];
for (const [name, text] of Object.entries(files)) {
  const before = await readFile(new URL(name, folder), 'utf8').catch(() => '');
  if (before !== text) stale.push(name);
}
if (process.argv.includes('--check') && stale.length > 0) {
  console.error(`src/contract/${stale.join(' and ')}: not what docs/openapi.yaml says; run make sdk-generate`);
  process.exit(1);
}
for (const name of stale) await writeFile(new URL(name, folder), files[name]);

/** The types. Each operation is written as two more schemas, so that openapi-typescript makes flat types of it. */
async function types() {
  const schemas = { ...spec.components.schemas };
  const calls = new Set();
  for (const { operation } of operations) {
    const body = operation.requestBody && Object.values(operation.requestBody.content)[0].schema;
    const input = objectOf({ query: parameters(operation, 'query'), body });
    const call = objectOf({ path: parameters(operation, 'path'), answer: answerOf(operation) });
    if (input) schemas[operation.operationId] = input;
    if (call) schemas[`${operation.operationId}.call`] = call;
    calls.add(`${operation.operationId}.call`);
  }
  const bare = JSON.parse(JSON.stringify(schemas, (key, value) => (key === 'format' && typeof value === 'string' ? undefined : value)));
  const nodes = await openapiTS({ openapi: spec.openapi, info: spec.info, paths: {}, components: { schemas: bare } }, { defaultNonNullable: false });
  const { members } = nodes.find((node) => node.name?.text === 'components').members.find((member) => member.name.text === 'schemas').type;
  const print = (wanted) => members.filter((member) => calls.has(member.name.text) === wanted).map((member) => tidy(astToString(member))).join('');
  return {
    'types.ts': `${note}/** The schemas of the contract, and query and body of each operation. */\nexport interface Schemas {\n${print(false)}}\n`,
    'calls.ts': `${note}import type { Schemas } from './types.js';\n\n/** Path and answer of each operation. */\nexport interface Calls {\n${print(true)}}\n`,
  };
}

function objectOf(properties) {
  const given = Object.entries(properties).filter(([, schema]) => schema !== undefined);
  return given.length > 0 ? { type: 'object', required: given.map(([name]) => name), properties: Object.fromEntries(given) } : undefined;
}

/** Shorter, and without what helps nobody. */
function tidy(text) {
  return text
    .replaceAll('components["schemas"]', 'Schemas')
    .replace(/^"(\w+)\.call"/m, '$1')
    .replace(/^ *(?:\/\*)?\*{1,2} @enum \{(?:string|boolean)\}(?: \*\/)?\n/gm, '')
    .replace(/^( *)\/\*\*\n +\* (?:@description )?(.*)\n +\*\/\n/gm, '$1/** $2 */\n')
    .replace(/^( *)\/\*\*\n +\* @description (.*)\n +\* @default (.*)\n +\*\/\n/gm, '$1/** $2; $3 unless it is set */\n')
    .replaceAll('/** @description ', '/** ')
    .replaceAll('* @description ', '* ')
    .replace(/^ */gm, (indent) => ' '.repeat((indent.length >> 2) * 2 + (indent.length % 4)))
    .replace(/^(?=.)/gm, '  ');
}

function parameters(operation, place) {
  const found = (operation.parameters ?? []).map(resolve).filter((parameter) => parameter.in === place);
  if (found.length === 0) return undefined;
  if (found.every(({ name }) => name === 'organizationId') && place === 'query') return undefined; // it stands in the options of every call
  const properties = found.map(({ name, schema, description }) => [name, place === 'path' || schema.$ref ? schema : ['organizationId', 'limit', 'cursor'].includes(name) ? { type: schema.type } : { ...schema, description }]);
  return { type: 'object', required: found.filter(({ required }) => required).map(({ name }) => name), properties: Object.fromEntries(properties) };
}

function answerOf(operation) {
  const schemas = successes(operation).flatMap((answer) => Object.entries(answer.content ?? {})).filter(([type]) => /[/+]json$/.test(type)).map(([, { schema }]) => schema);
  const different = [...new Map(schemas.map((schema) => [JSON.stringify(schema), schema])).values()];
  return different.length > 1 ? { oneOf: different } : different[0];
}

/** How each operation is called, by its name. */
function routes() {
  const lines = operations.map(({ path, method, operation }) => {
    const body = sends(operation);
    const scopes = (operation.security ?? []).map((each) => each.agentToken).find(Boolean);
    const route = {
      method: method.toUpperCase(),
      path,
      ...(scopes && { scopes }),
      ...(body && { body }),
      answer: gives(operation),
      ...(takesKey(operation) && { idempotencyKey: true }),
      ...(answersWith503(operation) && { also: [503] }),
    };
    return `  ${operation.operationId}: ${literal(route)},`;
  });
  return `/** How each operation of the contract is called. */\nexport const routes = {\n${lines.join('\n')}\n} as const;\n`;
}

/** The way the body is written, where there is one. */
function sends(operation) {
  const types = Object.keys(operation.requestBody?.content ?? {});
  return types.find((type) => type === 'application/merge-patch+json') ?? types[0];
}

/** What callers are given: parsed JSON, a stream, text, bytes, or nothing. */
function gives(operation) {
  const types = successes(operation).flatMap((answer) => Object.keys(answer.content ?? {}));
  if (types.length === 0) return 'nothing';
  if (types.includes('application/x-ndjson')) return 'stream';
  if (types.every((type) => /[/+]json$/.test(type))) return 'json';
  return types.length === 1 && /^text\/|yaml$|jwt$/.test(types[0]) ? 'text' : 'bytes';
}

/** Whether 503 is an answer of the same shape, as in /health, and no error. */
function answersWith503(operation) {
  const shape = (status) => JSON.stringify(resolve(operation.responses[status])?.content?.['application/json']?.schema);
  return shape('503') !== undefined && shape('503') === shape('200');
}

function takesKey(operation) {
  return (operation.parameters ?? []).map(resolve).some((parameter) => parameter.name === 'Idempotency-Key');
}

function successes(operation) {
  return Object.entries(operation.responses)
    .filter(([status]) => status.startsWith('2'))
    .map(([, answer]) => resolve(answer));
}

function resolve(node) {
  if (!node?.$ref) return node;
  return node.$ref.slice(2).split('/').reduce((at, key) => at[key], spec);
}

function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value === 'object') return `{ ${Object.entries(value).map(([key, each]) => `${key}: ${literal(each)}`).join(', ')} }`;
  return typeof value === 'string' ? `'${value}'` : String(value);
}

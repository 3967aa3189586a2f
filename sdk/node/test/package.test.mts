import { readFileSync, readdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { version } from '../src/version.js';
import { root, run } from './support/programs.mjs';

const project = mkdtempSync(join(tmpdir(), 'agentidp-project-'));
const tool = (name: string): string => join(root, 'node_modules/.bin', name);
const node = (...args: string[]): Promise<string> => run(process.execPath, args, {}, project);
let tarball: string;

// Installed as anybody would, into a project that has nothing.
beforeAll(async () => {
  const [packed] = JSON.parse(await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project])) as { filename: string }[];
  tarball = join(project, packed?.filename ?? '');
  writeFileSync(join(project, 'package.json'), '{"name":"empty","private":true}');
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], {}, project);
});
afterAll(() => rmSync(project, { recursive: true }));

test('an ES module imports it', async () => {
  writeFileSync(join(project, 'a.mjs'), "import { AgentIdentity, createVerifier } from '@sentryagent/agentidp';\nconsole.log(typeof AgentIdentity, typeof createVerifier);\n");
  expect(await node('a.mjs')).toBe('function function\n');
});

test('CommonJS requires it, and it is the same one', async () => {
  writeFileSync(
    join(project, 'b.cjs'),
    "const a = require('@sentryagent/agentidp');\nimport('@sentryagent/agentidp').then((b) => console.log(Object.keys(a).every((name) => a[name] === b[name]), new a.AgentIdP({ issuer: 'http://localhost', clientId: 'a', clientSecret: 'b' }) instanceof b.AgentIdP));\n",
  );
  expect(await node('b.cjs')).toBe('true true\n');
});

test('CommonJS verifies, though jose is an ES module', async () => {
  writeFileSync(
    join(project, 'c.cjs'),
    "const { createVerifier } = require('@sentryagent/agentidp');\ncreateVerifier({ issuer: 'http://localhost', audience: 'a' }).verify('a.b.c').catch((error) => console.log(error.name, error.constructor.name));\n",
  );
  expect(await node('c.cjs')).toBe('AuthenticationError AuthenticationError\n');
});

test.each([
  ['node16', 'node16', 'mts'],
  ['node16', 'node16', 'cts'],
  ['bundler', 'esnext', 'ts'],
])('its types are found under moduleResolution %s, module %s, in a .%s file', async (moduleResolution, module, extension) => {
  const file = join(project, `types.${extension}`);
  writeFileSync(
    file,
    `import { AgentIdP, AgentNotFoundError, createVerifier, type Agent } from '@sentryagent/agentidp';
export async function find(id: string): Promise<Agent | undefined> {
  const idp = new AgentIdP({ issuer: 'http://localhost:3000' });
  for await (const agent of idp.agents.list({ status: 'active' })) if (agent.id === id) return agent;
  // @ts-expect-error there is no such status
  idp.agents.list({ status: 'happy' });
  // @ts-expect-error an audience is needed
  createVerifier({});
  const call: Promise<Agent> = idp.agents.get(id);
  return call.catch((error: unknown) => { if (error instanceof AgentNotFoundError) return undefined; throw error; });
}
`,
  );
  const strict = ['--strict', '--noEmit', '--target', 'es2022', '--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
  await run(tool('tsc'), [...strict, '--exactOptionalPropertyTypes', '--module', module, '--moduleResolution', moduleResolution, file], {}, project).catch((error: unknown) => {
    throw new Error((error as { stdout: string }).stdout);
  });
});

test('publint and arethetypeswrong find nothing', async () => {
  expect(await run(tool('publint'), [tarball, '--strict'])).toMatch(/All good/);
  expect(await run(tool('attw'), [tarball, '--format', 'ascii'])).toMatch(/No problems found/);
});

test('it is small, and holds what it should and nothing else', () => {
  const installed = join(project, 'node_modules/@sentryagent/agentidp');
  const files = readdirSync(installed, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const size = (of: typeof files): number => of.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  expect(size(files.filter(({ name }) => !/\.md$|^LICENSE$/.test(name)))).toBeLessThan(100_000); // what is loaded, in bytes; three documents are beside it
  expect(new Set(files.map(({ name }) => name.replace(/^.*?\./, '.')))).toEqual(new Set(['.js', '.mjs', '.d.ts', '.d.mts', '.json', '.md', 'LICENSE']));
  expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.')).sort()).toEqual(['@sentryagent', 'jose']);
});

test('it says its version, and names no registry', () => {
  const { version: said } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  expect(version).toBe(said);
  expect(readFileSync(join(root, 'package-lock.json'), 'utf8')).not.toContain('"resolved"');
});

test('the generated types are what the contract says', async () => {
  await run(process.execPath, ['scripts/generate.mjs', '--check']);
});

// Builds dist/: one CommonJS file, an ES module that re-exports it, and the declarations. There is one implementation,
// whichever way it is loaded, so that `instanceof` and the token cache hold across both (docs/adr/0021-node-sdk.md).
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { joinDeclarations } from './declarations.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
await rm(dist, { recursive: true, force: true });

await build({
  absWorkingDir: root,
  entryPoints: ['src/index.ts'],
  outfile: 'dist/index.js',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['jose'],
  minify: true,
  keepNames: true,
});

const declarations = await mkdtemp(join(tmpdir(), 'agentidp-types-'));
try {
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', root, '--emitDeclarationOnly', '--outDir', declarations], { stdio: 'inherit' });
  await writeFile(join(dist, 'index.d.ts'), await joinDeclarations(join(declarations, 'index.d.ts')));
} finally {
  await rm(declarations, { recursive: true });
}
const names = Object.keys(await import(join(dist, 'index.js'))).filter((name) => name !== 'default' && name !== 'module.exports');
await writeFile(join(dist, 'index.mjs'), `export { ${names.sort().join(', ')} } from './index.js';\n`);
await writeFile(join(dist, 'index.d.mts'), "export * from './index.js';\n");

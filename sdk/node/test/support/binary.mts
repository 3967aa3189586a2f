import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The agentidp that the tests run against. */
    binary: string;
  }
}

/** Builds the SDK, and agentidp unless AGENTIDP_BINARY names one. */
export default function setup(project: TestProject): () => void {
  const root = resolve(import.meta.dirname, '../..');
  execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
  const folder = mkdtempSync(join(tmpdir(), 'agentidp-sdk-'));
  const binary = process.env.AGENTIDP_BINARY || join(folder, 'agentidp');
  if (!process.env.AGENTIDP_BINARY) {
    execFileSync('go', ['build', '-o', binary, './cmd/agentidp'], { cwd: resolve(root, '../..'), stdio: 'inherit' });
  }
  project.provide('binary', binary);
  return () => rmSync(folder, { recursive: true, force: true });
}

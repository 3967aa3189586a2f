import { execFile, spawn } from 'node:child_process';
import { connect, createServer, type AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { until } from './local.mjs';

/** The folder of the SDK. */
export const root = resolve(import.meta.dirname, '../..');

/** Runs a program to its end and gives what it printed. */
export async function run(program: string, args: string[], env: Record<string, string> = {}, cwd = root): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { cwd, env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', ...env } });
  return stdout;
}

/** Starts a program that serves at a port, and waits until it does. It ends with the test. */
export async function serving(port: number, file: string, env: Record<string, string>): Promise<void> {
  const running = spawn(process.execPath, [file], { cwd: root, env: { PATH: process.env.PATH ?? '', ...env }, stdio: ['ignore', 'ignore', 'inherit'] });
  onTestFinished(() => void running.kill());
  await until(`${file} to listen`, () => {
    if (running.exitCode !== null) throw new Error(`${file} ended with ${running.exitCode}`);
    return reachable(port);
  });
}

/** A port that was free a moment ago, below those that the system hands out by itself. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const free = await new Promise<number | undefined>((found) => {
      const server = createServer().once('error', () => found(undefined));
      server.listen(port, () => {
        const { port: taken } = server.address() as AddressInfo;
        server.close(() => found(taken));
      });
    });
    if (free !== undefined) return free;
  }
}

function reachable(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, 'localhost', () => {
      socket.destroy();
      answer(true);
    }).on('error', () => answer(false));
  });
}

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** A server of the test's own on this machine, ended with the test. */
export async function serve(handle: (req: IncomingMessage, res: ServerResponse) => void): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  onTestFinished(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

/** The global fetch, with a note of what was asked. */
export function counted(): { fetch: typeof fetch; calls: string[]; count: (path: string) => number } {
  const calls: string[] = [];
  return {
    calls,
    count: (path) => calls.filter((call) => call === path).length,
    fetch: (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      calls.push(url.pathname);
      return fetch(input, init);
    },
  };
}

/** Waits until a condition holds; patience is reached only when something hangs. */
export async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 50_000; !(await done()); ) {
    if (Date.now() > end) throw new Error(`still waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A promise that is resolved from outside. */
export function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void } {
  let open: (value: T) => void = () => undefined;
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open };
}

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { freePort, root, run, serving } from './support/programs.mjs';
import { Server } from './support/server.mjs';

test('the code of the README runs as it stands there', async () => {
  const server = await Server.forTest();
  const port = await freePort();
  const folder = join(root, '.scratch', `readme-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const text = readFileSync(join(root, 'README.md'), 'utf8').replaceAll('4000', String(port));
  const blocks = [...text.matchAll(/^```js (\S+)\n(.*?)^```$/gms)].map(([, name = '', code = '']) => {
    writeFileSync(join(folder, name), code);
    return name;
  });
  const left = new Set(blocks);
  const file = (name: string): string => {
    left.delete(name);
    return join(folder, name);
  };
  const env = ({ clientId, clientSecret }: { clientId?: string | undefined; clientSecret?: string | undefined }): Record<string, string> => ({
    AGENTIDP_ISSUER: server.issuer,
    AGENTIDP_CLIENT_ID: clientId ?? '',
    AGENTIDP_CLIENT_SECRET: clientSecret ?? '',
  });
  const node = (name: string, who: Parameters<typeof env>[0]): Promise<string> => run(process.execPath, [file(name)], env(who));

  const printed = await node('register.mjs', server.admin);
  const agent = /AGENTIDP_CLIENT_ID=(?<clientId>\S+) AGENTIDP_CLIENT_SECRET=(?<clientSecret>\S+)/.exec(printed)?.groups ?? {};
  await serving(port, file('service.mjs'), { AGENTIDP_ISSUER: server.issuer });
  expect(await node('agent.mjs', agent)).toBe(`200 {"invoices":["2026-001"],"agent":"${agent['clientId'] ?? ''}"}\n`);
  expect(await node('operate.mjs', server.admin)).toBe('active true\ntrue\ntrue 409\n');
  expect(await node('verify.mjs', agent)).toBe('true invalid_token\n');
  expect(await node('frameworks.mjs', agent)).toBe('Bearer scope="invoices:read"\n401\n');
  expect(await node('suspend.mjs', server.admin)).toMatch(/leaked on a laptop/);
  await expect(node('agent.mjs', agent)).rejects.toThrow(/invalid_client/);
  expect([...left]).toEqual([]);
});

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AgentIdentity, type CreatedAgent } from '../src/index.js';
import { freePort, run, serving } from './support/programs.mjs';
import { Server } from './support/server.mjs';

let server: Server;
let agent: CreatedAgent;
let env: Record<string, string>;
beforeAll(async () => {
  server = await Server.start();
  agent = await server.register();
  env = { AGENTIDP_ISSUER: server.issuer, AGENTIDP_CLIENT_ID: agent.id, AGENTIDP_CLIENT_SECRET: agent.credential.clientSecret ?? '' };
});
afterAll(() => server.end());

test('an agent calls a protected service', async () => {
  const port = await freePort();
  const resource = `http://localhost:${port}`;
  await serving(port, 'examples/protected-service.mjs', { AGENTIDP_ISSUER: server.issuer, RESOURCE: resource });
  expect(await run(process.execPath, ['examples/agent.mjs', `${resource}/invoices`], env)).toBe(
    `200 {"invoices":["2026-001","2026-002"],"for":"${agent.id}","of":"finance"}\n`,
  );
});

describe('an MCP server', () => {
  let resource: string;
  async function start(): Promise<void> {
    const port = await freePort();
    resource = `http://localhost:${port}/mcp`;
    await serving(port, 'examples/mcp-server.mjs', { AGENTIDP_ISSUER: server.issuer, RESOURCE: resource });
  }
  const connect = async (fetch?: ReturnType<AgentIdentity['fetchFor']>): Promise<Client> => {
    const client = new Client({ name: 'test', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(new URL(resource), { fetch }));
    return client;
  };

  test('is used by a real MCP client whose agent has the scope, and by no other', async () => {
    await start();
    const identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
    const client = await connect(identity.fetchFor({ scope: 'invoices:read', resource }));
    expect((await client.listTools()).tools.map(({ name }) => name)).toEqual(['list_invoices']);
    const result = await client.callTool({ name: 'list_invoices' });
    expect(result.content).toEqual([{ type: 'text', text: `2026-001, 2026-002 for ${agent.id}` }]);
    await client.close();

    await expect(connect()).rejects.toThrow(/401|bearer token is required/i);
    await expect(connect(identity.fetchFor({ scope: 'invoices:write', resource }))).rejects.toThrow(/403|lacks the scope/i);
    await expect(connect(identity.fetchFor({ scope: 'invoices:read', resource: 'https://elsewhere.example.com' }))).rejects.toThrow(/401|not valid/i);
  });

  test('says where tokens for it are had (RFC 9728)', async () => {
    await start();
    const challenge = (await fetch(resource, { method: 'POST' })).headers.get('www-authenticate') ?? '';
    const [, metadata = ''] = /resource_metadata="([^"]+)"/.exec(challenge) ?? [];
    expect(await (await fetch(metadata)).json()).toMatchObject({ resource, authorization_servers: [server.issuer] });
  });

  test('is used by the client of the examples', async () => {
    await start();
    expect(await run(process.execPath, ['examples/mcp-client.mjs', resource], env)).toContain(`for ${agent.id}`);
  });
});

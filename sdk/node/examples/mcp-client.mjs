// An agent that uses a protected MCP server: all it needs is its `fetch`.
//
//   AGENTIDP_ISSUER=… AGENTIDP_CLIENT_ID=… AGENTIDP_CLIENT_SECRET=… node examples/mcp-client.mjs http://localhost:4000/mcp
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { AgentIdentity } from '@sentryagent/agentidp';

const resource = process.argv[2] ?? 'http://localhost:4000/mcp';
const identity = new AgentIdentity();
const client = new Client({ name: 'invoice-reader', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(resource), { fetch: identity.fetchFor({ scope: 'invoices:read', resource }) }));
const result = await client.callTool({ name: 'list_invoices' });
console.log(JSON.stringify(result.content));
await client.close();

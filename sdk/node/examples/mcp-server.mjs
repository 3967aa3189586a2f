// An MCP server that only agents with a token for it can use, and whose tools know which agent calls.
//
//   AGENTIDP_ISSUER=http://localhost:3000 RESOURCE=http://localhost:4000/mcp node examples/mcp-server.mjs
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createVerifier, expressBearer } from '@sentryagent/agentidp';
import express from 'express';

const issuer = process.env.AGENTIDP_ISSUER ?? 'http://localhost:3000';
const resource = new URL(process.env.RESOURCE ?? 'http://localhost:4000/mcp');
const metadata = new URL('/.well-known/oauth-protected-resource/mcp', resource);
const verifier = createVerifier({ issuer, audience: resource.href });
const app = express();

// RFC 9728: where clients learn whose tokens are taken here.
app.get(metadata.pathname, (_, res) => {
  res.json({ resource: resource.href, authorization_servers: [issuer], scopes_supported: ['invoices:read'], bearer_methods_supported: ['header'] });
});

app.post(resource.pathname, expressBearer(verifier, { scope: 'invoices:read', resourceMetadata: metadata }), express.json(), async (req, res) => {
  const server = new McpServer({ name: 'invoices', version: '1.0.0' });
  server.registerTool('list_invoices', { description: 'Lists the invoices that the calling agent may read' }, ({ authInfo }) => ({
    content: [{ type: 'text', text: `2026-001, 2026-002 for ${authInfo?.clientId}` }],
  }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined }); // no session: each request stands alone
  res.on('close', () => void server.close());
  await server.connect(transport);
  await transport.handleRequest(req, res, req.body); // `req.auth`, which the middleware set, is the tools' authInfo
});

app.listen(Number(resource.port), () => console.log(`listening on ${resource.href}`));

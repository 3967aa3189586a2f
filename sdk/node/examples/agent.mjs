// An agent that calls a protected service. Its tokens come, are kept and are renewed by themselves.
//
//   AGENTIDP_ISSUER=… AGENTIDP_CLIENT_ID=… AGENTIDP_CLIENT_SECRET=… node examples/agent.mjs http://localhost:4000/invoices
import { AgentIdentity } from '@sentryagent/agentidp';

const identity = new AgentIdentity();
const answer = await identity.fetch(process.argv[2] ?? 'http://localhost:4000/invoices', { scope: 'invoices:read' });
console.log(answer.status, JSON.stringify(await answer.json()));

// A service that agents call: who has a token for it with the scope invoices:read is let in.
//
//   AGENTIDP_ISSUER=http://localhost:3000 RESOURCE=http://localhost:4000 node examples/protected-service.mjs
import { createVerifier, expressBearer, tokenOf } from '@sentryagent/agentidp';
import express from 'express';

const resource = process.env.RESOURCE ?? 'http://localhost:4000';
const verifier = createVerifier({ audience: resource });
const app = express();

app.get('/invoices', expressBearer(verifier, { scope: 'invoices:read' }), (req, res) => {
  const { subject, claims } = tokenOf(req);
  res.json({ invoices: ['2026-001', '2026-002'], for: subject, of: claims.owner });
});

app.listen(Number(new URL(resource).port), () => console.log(`listening on ${resource}`));

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  AgentIdentity, AuthenticationError, CredentialError, UnavailableError, createVerifier, expressBearer, fastifyBearer, honoBearer, tokenOf,
  type CreatedAgent, type VerifiedToken, type Verifier, type VerifierOptions,
} from '../src/index.js';
import { counted, until } from './support/local.mjs';
import { Server } from './support/server.mjs';

const audience = 'https://invoices.example.com';
let server: Server;
let agent: CreatedAgent;
let identity: AgentIdentity;
let service: AgentIdentity;
beforeAll(async () => {
  server = await Server.start();
  agent = await server.register();
  identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential, resource: audience });
  service = new AgentIdentity({ issuer: server.issuer, credential: (await server.register()).credential });
});
afterAll(() => server.end());

function verifier(options: Partial<VerifierOptions> = {}): Verifier {
  return createVerifier({ issuer: server.issuer, audience, retries: 0, ...options });
}

describe.each(['ES256', 'EdDSA', 'RS256'])('tokens of the real server under %s', (alg) => {
  test('hold, with all their claims', async () => {
    const mine = await Server.forTest({ JWT_ALG: alg });
    const { id, credential, organizationId } = await mine.register();
    const token = await new AgentIdentity({ issuer: mine.issuer, credential, resource: audience }).getToken();
    const verified = await createVerifier({ issuer: mine.issuer, audience }).verify(token, { scope: 'invoices:read' });
    expect(verified).toMatchObject({ subject: id, clientId: id, scopes: ['invoices:read', 'invoices:write'] });
    expect(verified.claims).toMatchObject({ org: organizationId, agent_type: 'invoice-reader', owner: 'finance', deployment_env: 'development', cid: credential.id });
  });
});

test('a token for the identity provider itself is refused by a service', async () => {
  const token = await service.getToken();
  await expect(verifier().verify(token)).rejects.toThrow(AuthenticationError);
});

describe('introspection', () => {
  test('notices a revocation at once; offline does not', async () => {
    const { id, credential } = await server.register();
    const token = await new AgentIdentity({ issuer: server.issuer, credential, resource: audience }).getToken();
    const asking = verifier({ mode: 'introspection', identity: service });
    expect((await asking.verify(token)).revocationChecked).toBe(true);
    await server.idp().agents.suspend(id);
    await expect(asking.verify(token)).rejects.toThrow(AuthenticationError);
    expect((await verifier().verify(token)).revocationChecked).toBe(false);
  });

  test('fails closed or open, as it was chosen, while the server is away; and goes on when it is back', async () => {
    const mine = await Server.forTest();
    const { credential } = await mine.register();
    const asker = new AgentIdentity({ issuer: mine.issuer, credential, retries: 0 });
    const token = await asker.getToken({ resource: audience });
    const options = { issuer: mine.issuer, audience, mode: 'introspection', identity: asker, retries: 0 } as const;
    const closed = createVerifier(options);
    const open = createVerifier({ ...options, onUnavailable: 'failOpen' });
    await Promise.all([closed.verify(token), open.verify(token)]);
    await mine.kill();
    await expect(closed.verify(token)).rejects.toThrow(UnavailableError);
    expect((await open.verify(token)).revocationChecked).toBe(false);
    await mine.restart();
    expect((await closed.verify(token)).revocationChecked).toBe(true);
  });

  test('a limit that was reached is an outage, a credential that is refused is not', async () => {
    const { fetch, calls } = counted();
    const limited: typeof fetch = (input, init) => (calls.length > 0 ? Promise.resolve(new Response('{}', { status: 429, headers: { 'retry-after': '7' } })) : fetch(input, init));
    const asker = new AgentIdentity({ issuer: server.issuer, credential: { clientId: agent.id, clientSecret: 'wrong' }, fetch, retries: 0 });
    const token = await identity.getToken();
    await expect(verifier({ mode: 'introspection', identity: asker, onUnavailable: 'failOpen' }).verify(token)).rejects.toThrow(CredentialError);
    const busy = new AgentIdentity({ issuer: server.issuer, credential: agent.credential, fetch: limited, retries: 0 });
    const error = await verifier({ mode: 'introspection', identity: busy }).verify(token).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'UnavailableError', retryAfter: 7 });
  });
});

test('keys are rotated under a verifier that goes on: old and new tokens hold', async () => {
  const mine = await Server.forTest();
  const { credential } = await mine.register();
  const token = (): Promise<string> => new AgentIdentity({ issuer: mine.issuer, credential, resource: audience }).getToken();
  const kid = (jwt: string): unknown => (JSON.parse(Buffer.from(jwt.split('.')[0] ?? '', 'base64url').toString()) as { kid: unknown }).kid;
  const { fetch, count } = counted();
  const going = createVerifier({ issuer: mine.issuer, audience, fetch });
  const before = await token();
  await going.verify(before);
  const knowsNothingYet = createVerifier({ issuer: mine.issuer, audience });
  await mine.command('keys', 'rotate', '--activate-in', '1s');
  let after = before;
  await until('a token under the new key', async () => kid((after = await token())) !== kid(before));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 }); // an unknown key is looked for once in ten seconds
  onTestFinished(() => void vi.useRealTimers());
  await Promise.all(Array.from({ length: 50 }, () => going.verify(after)));
  expect(count('/.well-known/jwks.json')).toBe(2);
  await going.verify(before);
  await knowsNothingYet.verify(before);
});

interface Running {
  url: string;
  seen: () => VerifiedToken | undefined;
}
type Start = (verifier: Verifier) => Promise<Running>;
const options = { scope: 'invoices:read', resourceMetadata: `${audience}/.well-known/oauth-protected-resource` };

const frameworks: Record<string, Start> = {
  'Express 5': async (verify) => {
    let seen: VerifiedToken | undefined;
    const app = express();
    app.get('/', expressBearer(verify, options), (req, res) => {
      seen = tokenOf(req);
      res.json({ agent: seen.subject });
    });
    app.get('/bare', (req, res) => res.json(tokenOf(req)));
    app.use((_error: unknown, _req: express.Request, res: express.Response, _next: express.NextFunction) => res.status(500).end());
    const listening = app.listen(0, '127.0.0.1');
    await once(listening, 'listening');
    onTestFinished(() => void listening.close());
    return { url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`, seen: () => seen };
  },
  'Fastify 5': async (verify) => {
    let seen: VerifiedToken | undefined;
    const app = fastify();
    app.get('/', { onRequest: fastifyBearer(verify, options) }, (req) => {
      seen = tokenOf(req);
      return { agent: seen.subject };
    });
    app.get('/bare', (req) => tokenOf(req));
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    onTestFinished(() => app.close());
    return { url, seen: () => seen };
  },
  Hono: (verify) => {
    let seen: VerifiedToken | undefined;
    const app = new Hono<{ Variables: { auth: VerifiedToken } }>();
    app.onError((_, c) => c.body(null, 500));
    app.get('/', honoBearer(verify, options), (c) => {
      seen = tokenOf(c);
      return c.json({ agent: c.get('auth').subject });
    });
    app.get('/bare', (c) => c.json(tokenOf(c)));
    return serveHono(app, () => seen);
  },
};

async function serveHono(app: { fetch: (request: Request) => Response | Promise<Response> }, seen: Running['seen']): Promise<Running> {
  const { serve } = await import('./support/local.mjs');
  const { url } = await serve((req, res) => {
    const headers = new Headers(Object.entries(req.headers).map(([name, value]) => [name, String(value)] as [string, string]));
    void Promise.resolve(app.fetch(new Request(`http://127.0.0.1${req.url ?? ''}`, { headers }))).then(async (answer) => {
      res.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
    });
  });
  return { url, seen };
}

describe.each(Object.entries(frameworks))('%s', (_, start) => {
  const metadata = `resource_metadata="${audience}/.well-known/oauth-protected-resource"`;

  test('lets in whose token holds', async () => {
    const { url, seen } = await start(verifier());
    const answer = await fetch(url, { headers: { authorization: `bearer ${await identity.getToken()}` } });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ agent: agent.id });
    expect(seen()?.subject).toBe(agent.id);
  });

  test('answers all others as RFC 6750 says', async () => {
    const { url, seen } = await start(verifier());
    const ask = async (authorization?: string): Promise<{ status: number; challenge: string; body: unknown }> => {
      const answer = await fetch(url, { headers: authorization === undefined ? {} : { authorization } });
      return { status: answer.status, challenge: answer.headers.get('www-authenticate') ?? '', body: await answer.json() };
    };
    expect(await ask()).toMatchObject({ status: 401, challenge: `Bearer scope="invoices:read", ${metadata}` });
    expect(await ask('Basic abc')).toMatchObject({ status: 401, challenge: `Bearer scope="invoices:read", ${metadata}` });
    const malformed = await ask('Bearer a b');
    expect(malformed).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
    const wrong = await ask('Bearer abc');
    expect(wrong).toMatchObject({ status: 401, body: { error: 'invalid_token' } });
    expect(wrong.challenge).toMatch(/^Bearer error="invalid_token", error_description="[^"\\]+", scope="invoices:read", resource_metadata="[^"]+"$/);
    const narrow = await ask(`Bearer ${await identity.getToken({ scope: 'invoices:write' })}`);
    expect(narrow).toMatchObject({ status: 403, body: { error: 'insufficient_scope' } });
    expect(narrow.challenge).toContain('error="insufficient_scope"');
    expect(seen()).toBeUndefined();
  });

  test('says when it cannot know, and when it is itself at fault', async () => {
    const token = await identity.getToken();
    const away = await start(createVerifier({ issuer: 'http://127.0.0.1:1', audience, retries: 0 }));
    const answer = await fetch(away.url, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('1');
    const wrong = new AgentIdentity({ issuer: server.issuer, credential: { clientId: agent.id, clientSecret: 'wrong' } });
    const fault = await start(verifier({ mode: 'introspection', identity: wrong }));
    expect((await fetch(fault.url, { headers: { authorization: `Bearer ${token}` } })).status).toBeGreaterThanOrEqual(401);
    expect((await fetch(`${fault.url}/bare`)).status).toBe(500);
  });
});

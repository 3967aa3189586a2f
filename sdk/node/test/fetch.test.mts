import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AgentIdentity, UnavailableError, createVerifier, type CreatedAgent, type IdentityOptions } from '../src/index.js';
import { counted, gate, serve } from './support/local.mjs';
import { Server } from './support/server.mjs';

let server: Server;
let agent: CreatedAgent;
beforeAll(async () => {
  server = await Server.start();
  agent = await server.register();
});
afterAll(() => server.end());

function identity(options: IdentityOptions = {}): AgentIdentity {
  return new AgentIdentity({ issuer: server.issuer, credential: agent.credential, ...options });
}

/** A service that asks the identity provider about each token, and notes what it was sent. */
async function service(answer: (seen: { method: string; body: string }) => number = () => 200): Promise<{ url: string; seen: { method: string; body: string; token: string }[] }> {
  const seen: { method: string; body: string; token: string }[] = [];
  const { url } = await serve((req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => (body += chunk.toString()));
    req.on('end', () => {
      const token = (req.headers.authorization ?? '').replace('Bearer ', '');
      seen.push({ method: req.method ?? '', body, token });
      const verifier = createVerifier({ issuer: server.issuer, audience: url, mode: 'introspection', identity: identity() });
      verifier.verify(token).then(
        () => res.writeHead(answer({ method: req.method ?? '', body }), { 'retry-after': '0' }).end(body),
        () => res.writeHead(401).end(),
      );
    });
  });
  return { url, seen };
}

test('the token is for the origin it is sent to, unless something else is said', async () => {
  const { url, seen } = await service();
  const mine = identity();
  expect((await mine.fetch(`${url}/invoices`, { scope: 'invoices:read' })).status).toBe(200);
  expect((await mine.fetch(new Request(`${url}/invoices`), { scope: 'invoices:read' })).status).toBe(200);
  expect((await mine.fetch(url, { resource: 'https://elsewhere.example.com' })).status).toBe(401);
  expect((await identity({ resource: url }).fetch(`${url}/x`)).status).toBe(200);
  expect((await mine.fetchFor({ scope: 'invoices:write', resource: url })(`${url}/y`)).status).toBe(200);
  expect(seen[0]?.token).toBe(seen[1]?.token);
});

test('the identity provider is sent its own tokens alone', async () => {
  const mine = identity({ resource: 'https://invoices.example.com' });
  const answer = await mine.fetch(`${server.issuer}/agents`, { scope: 'invoices:read' });
  expect(answer.status).toBe(403); // a token for somebody else would be 401
});

test('a token that was revoked is renewed once, and the request is sent again with its body', async () => {
  const { url, seen } = await service();
  const mine = identity();
  const old = await mine.getToken({ resource: url });
  await server.idp().oauth.revoke(old);
  const answers = await Promise.all(['a', 'b', 'c'].map((body) => mine.fetch(url, { method: 'POST', body })));
  expect(await Promise.all(answers.map((answer) => answer.text()))).toEqual(['a', 'b', 'c']);
  expect(new Set(seen.map(({ token }) => token)).size).toBe(2);
});

test('a refusal that comes late does not cost the token that came since', async () => {
  const renewed = gate();
  let old = '';
  const { url } = await serve((req, res) => {
    if (req.headers.authorization !== `Bearer ${old}`) {
      res.end(() => renewed.open());
    } else if (req.url === '/late') {
      void renewed.opened.then(() => res.writeHead(401).end());
    } else {
      res.writeHead(401).end();
    }
  });
  const { fetch, count } = counted();
  const mine = identity({ fetch });
  old = await mine.getToken({ resource: url });
  const answers = await Promise.all([mine.fetch(`${url}/late`), mine.fetch(`${url}/at-once`)]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  expect(count('/oauth2/token')).toBe(2);
});

test('a Request with a body is sent again too', async () => {
  const { url } = await service();
  const mine = identity();
  await server.idp().oauth.revoke(await mine.getToken({ resource: url }));
  const answer = await mine.fetch(new Request(url, { method: 'POST', body: 'once more' }));
  expect(await answer.text()).toBe('once more');
});

test('a stream cannot be sent again: its 401 is the answer, and the next request has a new token', async () => {
  const { url } = await service();
  const mine = identity();
  await server.idp().oauth.revoke(await mine.getToken({ resource: url }));
  const stream = new Blob(['once']).stream();
  const refused = await mine.fetch(url, { method: 'POST', body: stream, duplex: 'half' });
  expect(refused.status).toBe(401);
  expect((await mine.fetch(url)).status).toBe(200);
});

test('a service that refuses every token is asked twice, not for ever', async () => {
  const { url, seen } = await service(() => 401);
  expect((await identity().fetch(url)).status).toBe(401);
  expect(seen).toHaveLength(2);
});

describe('is tried again', () => {
  test.each([
    [429, 'POST', 3],
    [503, 'GET', 3],
    [503, 'POST', 1],
    [502, 'PUT', 3],
    [504, 'PATCH', 1],
    [500, 'GET', 1],
    [404, 'GET', 1],
  ])('%i to %s: sent %i times', async (status, method, times) => {
    const { url, seen } = await service(() => status);
    expect((await identity().fetch(url, { method })).status).toBe(status);
    expect(seen).toHaveLength(times);
  });

  test('a connection that breaks: GET is sent again, POST is not', async () => {
    let met = 0;
    const { url } = await serve((req) => {
      met++;
      req.socket.destroy();
    });
    await expect(identity().fetch(url)).rejects.toThrow(TypeError);
    expect(met).toBe(3);
    await expect(identity().fetch(url, { method: 'POST', body: 'x' })).rejects.toThrow(TypeError);
    expect(met).toBe(4);
  });

  test('a connection that was refused: nothing was sent, so POST is tried again too', async () => {
    const { url, close } = await serve(() => undefined);
    await close();
    const { fetch, count } = counted();
    await expect(identity({ fetch, retries: 1 }).fetch(`${url}/x`, { method: 'POST', body: 'x' })).rejects.toThrow();
    expect(count('/x')).toBe(2);
  });
});

test('time-outs and aborts end the request', async () => {
  const { url } = await serve(() => undefined);
  const mine = identity({ retries: 0 });
  const late = await mine.fetch(url, { timeoutMs: 50 }).catch((error: unknown) => error);
  expect(late).toBeInstanceOf(UnavailableError);
  expect(late).toMatchObject({ code: 'TIMEOUT' });
  const controller = new AbortController();
  const left = mine.fetch(url, { signal: controller.signal, timeoutMs: 50_000 });
  const plain = mine.fetch(url, { signal: controller.signal });
  controller.abort(new Error('enough'));
  await expect(left).rejects.toThrow('enough');
  await expect(plain).rejects.toThrow('enough');
});

test('an abort ends the wait between two tries', async () => {
  const controller = new AbortController();
  const { url } = await serve((_, res) => {
    res.writeHead(429, { 'retry-after': '10' }).end();
    setTimeout(() => controller.abort(new Error('enough')), 20);
  });
  await expect(identity().fetch(url, { signal: controller.signal })).rejects.toThrow('enough');
});

test('Retry-After may be a date', async () => {
  const { url } = await serve((_, res) => res.writeHead(429, { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() }).end());
  expect((await identity().fetch(url)).status).toBe(429); // an hour is not waited for
});

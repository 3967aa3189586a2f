import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { AgentIdentity, AuthorizationError, SentryAgentError, UnavailableError, ValidationError, type CreatedAgent, type IdentityOptions } from '../src/index.js';
import { counted, serve, until } from './support/local.mjs';
import { Server } from './support/server.mjs';

let server: Server;
let agent: CreatedAgent;
beforeAll(async () => {
  server = await Server.start();
  agent = await server.register({ tokenTtlSeconds: 600 });
});
afterAll(() => server.end());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

function identity(options: IdentityOptions = {}): AgentIdentity {
  return new AgentIdentity({ issuer: server.issuer, credential: agent.credential, ...options });
}

function claims(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>;
}

/** Lets both clocks of the process jump, and nothing else. */
function jump(seconds: number): void {
  vi.useFakeTimers({ toFake: ['Date', 'performance'], now: Date.now() });
  vi.advanceTimersByTime(seconds * 1000);
}

describe('getToken', () => {
  test('1,000 calls at once make one request', async () => {
    const { fetch, calls } = counted();
    const mine = identity({ fetch });
    const tokens = await Promise.all(Array.from({ length: 1000 }, () => mine.getToken({ scope: 'invoices:read' })));
    expect(new Set(tokens).size).toBe(1);
    expect(calls).toEqual(['/oauth2/token']);
  });

  test('keeps one token for each scope and resource, however they are written', async () => {
    const { fetch, calls } = counted();
    const mine = identity({ fetch });
    const both = await mine.getToken({ scope: 'invoices:write invoices:read', resource: 'https://invoices.example.com' });
    expect(await mine.getToken({ scope: ['invoices:read', 'invoices:write'], resource: ['https://invoices.example.com'] })).toBe(both);
    expect(claims(both)).toMatchObject({ aud: 'https://invoices.example.com', scope: 'invoices:read invoices:write', sub: agent.id });
    const narrow = await mine.getToken({ scope: 'invoices:read', resource: 'https://invoices.example.com' });
    expect(claims(narrow)['scope']).toBe('invoices:read');
    const two = await mine.getToken({ scope: 'invoices:read', resource: ['https://a.example.com', 'https://b.example.com'] });
    expect(claims(two)['aud']).toEqual(['https://a.example.com', 'https://b.example.com']);
    expect(calls).toHaveLength(3);
  });

  test('says what was granted and until when', async () => {
    const granted = await identity().getAccessToken({ scope: 'invoices:read' });
    expect(granted.scope).toBe('invoices:read');
    expect(granted.expiresAt.getTime()).toBeLessThanOrEqual(Date.now() + 600_000);
    expect(Object.keys(granted).sort()).toEqual(['expiresAt', 'scope', 'token']);
  });

  test('renews ahead of expiry behind the callers backs', async () => {
    const { fetch, calls } = counted();
    const mine = identity({ fetch });
    const first = await mine.getToken();
    jump(400);
    expect(await mine.getToken()).toBe(first); // two thirds of its life: nothing is due
    expect(calls).toHaveLength(1);
    jump(120);
    expect(await Promise.all([mine.getToken(), mine.getToken()])).toEqual([first, first]); // it still holds
    await until('the next token', async () => (await mine.getToken()) !== first);
    expect(calls).toHaveLength(2);
  });

  test('waits for a new token where the old one has expired', async () => {
    const mine = identity();
    const first = await mine.getToken();
    jump(599);
    expect(await mine.getToken()).not.toBe(first);
  });

  test('a machine that slept does not take an old token for a young one', async () => {
    const mine = identity();
    const first = await mine.getToken();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 700_000 }); // the steady clock slept, too
    expect(await mine.getToken()).not.toBe(first);
  });

  test('nor does a clock that is set back', async () => {
    const mine = identity();
    const first = await mine.getToken();
    vi.useFakeTimers({ toFake: ['performance'] });
    vi.advanceTimersByTime(3_600_000);
    expect(await mine.getToken()).not.toBe(first);
  });

  test('a clock that is wrong by a day changes nothing', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 86_400_000 });
    const { fetch, calls } = counted();
    const mine = identity({ fetch });
    expect(await mine.getToken()).toBe(await mine.getToken());
    expect(calls).toHaveLength(1);
  });

  test('a renewal that fails is told, and the token at hand goes on', async () => {
    const errors: SentryAgentError[] = [];
    let down = false;
    const mine = identity({
      onRenewalError: (error) => errors.push(error),
      retries: 0,
      fetch: (input, init) => (down ? Promise.reject(new TypeError('fetch failed')) : fetch(input, init)),
    });
    const first = await mine.getToken();
    down = true;
    jump(530);
    expect(await mine.getToken()).toBe(first);
    await until('the failure', () => errors.length > 0);
    expect(errors[0]).toBeInstanceOf(UnavailableError);
    expect(await mine.getToken()).toBe(first);
  });

  test('a caller can leave; the others still get the token', async () => {
    const mine = identity();
    const controller = new AbortController();
    const left = mine.getToken({ signal: controller.signal });
    const stayed = mine.getToken();
    controller.abort(new Error('enough'));
    await expect(left).rejects.toThrow('enough');
    expect(await stayed).toMatch(/^ey/);
    await expect(mine.getToken({ signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });

  test('a scope the agent has no capability for is an AuthorizationError', async () => {
    const error = await identity().getToken({ scope: 'invoices:delete' }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(AuthorizationError);
    expect(error).toMatchObject({ code: 'invalid_scope', status: 400, requestId: expect.any(String) as string });
  });

  test('a failure is not kept', async () => {
    let down = true;
    const mine = identity({ retries: 0, fetch: (input, init) => (down ? Promise.reject(new TypeError('fetch failed')) : fetch(input, init)) });
    await expect(mine.getToken()).rejects.toThrow(UnavailableError);
    down = false;
    expect(await mine.getToken()).toMatch(/^ey/);
  });

  test('an answer that comes too late is told as such', async () => {
    const { url } = await serve(() => undefined);
    const error = await identity({ issuer: url, timeoutMs: 50, retries: 1 }).getToken().catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'TIMEOUT', status: 0 });
  });

  test('at most 1,000 different tokens are kept', async () => {
    let asked = 0;
    const { url } = await serve((_, res) => {
      asked++;
      res.setHeader('content-type', 'application/json').end('{"access_token":"t","expires_in":600,"scope":""}');
    });
    const mine = identity({ issuer: url });
    for (let i = 0; i <= 1000; i++) await mine.getToken({ resource: `https://${i}.example.com` });
    await mine.getToken({ resource: 'https://1000.example.com' });
    expect(asked).toBe(1001);
    await mine.getToken({ resource: 'https://0.example.com' });
    expect(asked).toBe(1002);
  });

  test('an answer without a token is a failure', async () => {
    const { url } = await serve((_, res) => res.setHeader('content-type', 'application/json').end('{}'));
    await expect(identity({ issuer: url }).getToken()).rejects.toMatchObject({ code: 'UNEXPECTED_ANSWER' });
  });
});

describe('options', () => {
  test('all of them can stand in the environment', async () => {
    vi.stubEnv('AGENTIDP_ISSUER', server.issuer);
    vi.stubEnv('AGENTIDP_CLIENT_ID', agent.credential.clientId);
    vi.stubEnv('AGENTIDP_CLIENT_SECRET', agent.credential.clientSecret ?? '');
    vi.stubEnv('AGENTIDP_SCOPE', 'invoices:read');
    vi.stubEnv('AGENTIDP_RESOURCE', 'https://invoices.example.com');
    expect(claims(await new AgentIdentity().getToken())).toMatchObject({ scope: 'invoices:read', aud: 'https://invoices.example.com' });
  });

  test.each([
    ['issuer', {}],
    ['issuer', { issuer: 'https://idp.example.com/' }],
    ['issuer', { issuer: 'idp.example.com' }],
    ['clientId', { issuer: 'https://idp.example.com' }],
    ['clientSecret', { issuer: 'https://idp.example.com', clientId: 'a' }],
    ['clientSecret', { issuer: 'https://idp.example.com', clientId: 'a', clientSecret: 'b', clientSecretFile: 'c' }],
  ])('what is wrong with %s is told at once: %j', (field, options) => {
    const failure = (() => {
      try {
        return new AgentIdentity(options);
      } catch (error) {
        return error;
      }
    })();
    expect(failure).toBeInstanceOf(ValidationError);
    expect((failure as ValidationError).fields.map((each) => each.field)).toEqual([field]);
  });

  test('a secret in the environment twice is refused', () => {
    vi.stubEnv('AGENTIDP_CLIENT_SECRET', 'a');
    vi.stubEnv('AGENTIDP_CLIENT_SECRET_FILE', 'b');
    expect(() => new AgentIdentity({ issuer: server.issuer, clientId: 'a' })).toThrow(/both set/);
  });

  test('a secret that was shown to an earlier request is refused with the way out', async () => {
    await expect(identity({ credential: { clientId: agent.id, clientSecret: null } }).getToken()).rejects.toThrow(/rotate the credential/);
    await expect(identity({ credential: { clientId: '', clientSecret: 'x' } }).getToken()).rejects.toThrow(ValidationError);
  });

  test('no secret is seen where the identity is printed', async () => {
    const { inspect } = await import('node:util');
    const mine = identity();
    const token = await mine.getToken();
    const text = inspect(mine, { depth: 9, showHidden: true }) + JSON.stringify(mine);
    expect(text).not.toContain(agent.credential.clientSecret);
    expect(text).not.toContain(token);
  });
});

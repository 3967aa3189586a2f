import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AuthenticationError, AuthorizationError, UnavailableError, createVerifier, type Verifier, type VerifierOptions } from '../src/index.js';
import { until } from './support/local.mjs';
import { Issuer } from './support/issuer.mjs';

const audience = 'https://invoices.example.com';
const jwks = '/.well-known/jwks.json';
let issuer: Issuer;
beforeEach(async () => {
  issuer = await Issuer.start();
});
afterEach(() => vi.useRealTimers());

function verifier(options: Partial<VerifierOptions> = {}): Verifier {
  return createVerifier({ issuer: issuer.url, audience, retries: 0, ...options });
}

function jump(seconds: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 1000 * seconds });
}

describe('RFC 9068', () => {
  test('a token that holds is read', async () => {
    const token = await issuer.token({ org: 'o', scope: 'invoices:write invoices:read' });
    expect(await verifier().verify(token, { scope: ['invoices:read', 'invoices:write'] })).toMatchObject({
      token,
      subject: 'agent',
      clientId: 'agent',
      scopes: ['invoices:read', 'invoices:write'],
      revocationChecked: false,
      claims: { org: 'o', iss: issuer.url },
    });
    expect(await verifier({ audience: ['https://other.example.com', audience] }).verify(await issuer.token({ aud: ['x', audience] }))).toBeDefined();
    expect(await verifier().verify(await issuer.token({}, { typ: 'application/at+jwt' }))).toBeDefined();
  });

  const now = (): number => Math.floor(Date.now() / 1000);
  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['of another issuer', { iss: 'https://evil.example.com' }, {}],
    ['for somebody else', { aud: 'https://other.example.com' }, {}],
    ['for nobody', { aud: undefined }, {}],
    ['that expired', { exp: now() - 10 }, {}],
    ['without an expiry', { exp: undefined }, {}],
    ['that does not hold yet', { nbf: now() + 3600 }, {}],
    ['issued in the future', { iat: now() + 3600 }, {}],
    ['without sub', { sub: undefined }, {}],
    ['without client_id', { client_id: undefined }, {}],
    ['without jti', { jti: undefined }, {}],
    ['without iat', { iat: undefined }, {}],
    ['whose client_id is no text', { client_id: 7 }, {}],
    ['whose scope is no text', { scope: ['invoices:read'] }, {}],
    ['of another type', {}, { typ: 'JWT' }],
    ['without a type', {}, { typ: undefined }],
    ['of a key that is not there', {}, { kid: 'unknown' }],
    ['with a critical header nobody knows', {}, { crit: ['exp'], exp: 1 }],
  ])('a token %s is refused', async (_, claims, header) => {
    const token = await issuer.token(claims, header).catch(() => 'the library signs no such thing');
    const error = await verifier().verify(token).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(AuthenticationError);
    expect(error).toMatchObject({ code: 'invalid_token', status: 401 });
  });

  test.each([
    ['nothing', ''],
    ['no token', 'hello'],
    ['a token of 20,000 characters', `${'a'.repeat(20_000)}.b.c`],
    ['alg none', `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.e30.`],
    ['an HMAC under the public key', `${Buffer.from('{"alg":"HS256","typ":"at+jwt"}').toString('base64url')}.e30.YQ`],
  ])('%s is refused', async (_, token) => {
    await expect(verifier().verify(token)).rejects.toThrow(AuthenticationError);
  });

  test('a changed claim breaks the signature', async () => {
    const [header, payload = '', signature] = (await issuer.token()).split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object;
    const forged = [header, Buffer.from(JSON.stringify({ ...claims, scope: 'all' })).toString('base64url'), signature].join('.');
    await expect(verifier().verify(forged)).rejects.toThrow(/signature/);
  });

  test('a scope that is lacking is named', async () => {
    const error = await verifier().verify(await issuer.token(), { scope: 'invoices:read invoices:write' }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(AuthorizationError);
    expect(error).toMatchObject({ code: 'insufficient_scope', status: 403, details: { scope: 'invoices:read invoices:write' } });
    await expect(verifier().verify(await issuer.token({ scope: undefined }), { scope: 'a:b' })).rejects.toThrow(AuthorizationError);
  });

  test('clocks may differ by the tolerance, and no more', async () => {
    const seconds = now();
    const early = await issuer.token({ iat: seconds + 20, nbf: seconds + 20 });
    const late = await issuer.token({ exp: seconds - 20 });
    await expect(verifier().verify(early)).rejects.toThrow(AuthenticationError);
    await expect(verifier().verify(late)).rejects.toThrow(AuthenticationError);
    const tolerant = verifier({ clockTolerance: 60 });
    expect(await tolerant.verify(early)).toBeDefined();
    expect(await tolerant.verify(late)).toBeDefined();
  });
});

describe('keys', () => {
  test('many tokens at once make one fetch', async () => {
    const mine = verifier();
    const token = await issuer.token();
    await Promise.all(Array.from({ length: 200 }, () => mine.verify(token)));
    expect(issuer.asked).toEqual({ '/.well-known/oauth-authorization-server': 1, [jwks]: 1 });
  });

  test('a new key is found at once, and made-up ones cause no storm', async () => {
    const mine = verifier();
    await mine.verify(await issuer.token());
    const forged = await Promise.all(Array.from({ length: 300 }, (_, i) => issuer.token({}, { kid: `made-up-${i}` })));
    await Promise.allSettled(forged.map((token) => mine.verify(token)));
    expect(issuer.asked[jwks]).toBe(1); // the set is fresh
    jump(11);
    await issuer.rotate();
    const token = await issuer.token();
    await Promise.all(Array.from({ length: 50 }, () => mine.verify(token)));
    expect(issuer.asked[jwks]).toBe(2);
    await Promise.allSettled(forged.map((each) => mine.verify(each)));
    expect(issuer.asked[jwks]).toBe(2);
  });

  test('are fetched again before they are too old, so that an outage is not noticed', async () => {
    const mine = verifier();
    const token = await issuer.token({ exp: Math.floor(Date.now() / 1000) + 7200 });
    await mine.verify(token);
    jump(200);
    await mine.verify(token);
    await until('the fetch behind the back', () => issuer.asked[jwks] === 2);
    jump(200);
    issuer.answers[jwks] = () => ({ status: 500, body: '' });
    expect(await mine.verify(token)).toBeDefined();
  });

  test('are not used past five minutes: what cannot be known is not let in', async () => {
    const mine = verifier();
    const token = await issuer.token({ exp: Math.floor(Date.now() / 1000) + 7200 });
    await mine.verify(token);
    jump(301);
    issuer.answers[jwks] = () => ({ status: 500, body: '' });
    await expect(mine.verify(token)).rejects.toMatchObject({ name: 'UnavailableError', code: 'KEYS_UNAVAILABLE' });
    delete issuer.answers[jwks];
    expect(await mine.verify(token)).toBeDefined();
  });

  test('are not taken by the metadata of another issuer', async () => {
    issuer.metadata['issuer'] = 'https://evil.example.com';
    await expect(verifier().verify(await issuer.token())).rejects.toThrow(/evil/);
    issuer.answers['/.well-known/oauth-authorization-server'] = () => ({ body: '<html>' });
    await expect(verifier().verify(await issuer.token())).rejects.toThrow(/no JSON/);
  });

  test('a caller can leave', async () => {
    await expect(verifier().verify(await issuer.token(), { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});

describe('status lists', () => {
  const path = '/statuslists/1';
  const referring = (idx: unknown, uri: unknown = `${issuer.url}${path}`): Promise<string> => issuer.token({ status: { status_list: { idx, uri } } });
  async function publish(...list: Parameters<Issuer['statusList']>): Promise<void> {
    const body = await issuer.statusList(...list);
    issuer.answers[path] = () => ({ body });
  }

  test.each([1, 2, 4, 8])('of %i bits are read', async (bits) => {
    const most = 2 ** bits - 1;
    const statuses = Array.from({ length: 100 }, (_, i) => (i % 3 === 0 ? 0 : i % 3 === 1 ? 1 : most));
    await publish(bits, statuses);
    const mine = verifier({ mode: 'statusList' });
    for (const [idx, status] of statuses.entries()) {
      const outcome = mine.verify(await referring(idx));
      if (status === 0) expect((await outcome).revocationChecked).toBe(true);
      else await expect(outcome).rejects.toThrow(AuthenticationError);
    }
    expect(issuer.asked[path]).toBe(1);
  });

  test('read the example of the draft', async () => {
    const body = await issuer.statusList(1, [0], { status_list: { bits: 1, lst: 'eNrbuRgAAhcBXQ' } });
    issuer.answers[path] = () => ({ body });
    const mine = verifier({ mode: 'statusList' });
    const expected = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1];
    for (const [idx, status] of expected.entries()) {
      const outcome = await mine.verify(await referring(idx)).then(() => 0, () => 1);
      expect(outcome).toBe(status);
    }
  });

  test('many tokens at once make one fetch, and a new one follows when the list is old', async () => {
    await publish(1, [0, 0], { ttl: 30 });
    const mine = verifier({ mode: 'statusList' });
    const token = await referring(1);
    await Promise.all(Array.from({ length: 100 }, () => mine.verify(token)));
    expect(issuer.asked[path]).toBe(1);
    await publish(1, [0, 1]);
    expect(await mine.verify(token)).toBeDefined();
    jump(31);
    await expect(mine.verify(token)).rejects.toThrow(/status is invalid/);
  });

  test('what is suspended is said', async () => {
    await publish(2, [2, 3]);
    const mine = verifier({ mode: 'statusList' });
    await expect(mine.verify(await referring(0))).rejects.toThrow(/suspended/);
    await expect(mine.verify(await referring(1))).rejects.toThrow(/status is 3/);
  });

  test.each<[string, () => Promise<unknown>, () => Promise<string>]>([
    ['the server is away', () => Promise.resolve(), () => referring(0)],
    ['the token names no list', () => publish(1, [0]), () => issuer.token()],
    ['its place is no place', () => publish(1, [0]), () => referring(-1)],
    ['its place is past the end', () => publish(1, [0]), () => referring(8)],
    ['the list is elsewhere', () => publish(1, [0]), () => referring(0, 'https://evil.example.com/list')],
    ['the list is of another type', () => publish(1, [0], {}, { typ: 'JWT' }), () => referring(0)],
    ['the list is another one', () => publish(1, [0], { sub: 'https://evil.example.com' }), () => referring(0)],
    ['the list is of another issuer', () => publish(1, [0], { iss: 'https://evil.example.com' }), () => referring(0)],
    ['the list has expired', () => publish(1, [0], { exp: 1 }), () => referring(0)],
    ['the list has no bits', () => publish(1, [0], { status_list: { lst: '' } }), () => referring(0)],
    ['the list cannot be unpacked', () => publish(1, [0], { status_list: { bits: 1, lst: 'AAAA' } }), () => referring(0)],
  ])('where %s, failClosed refuses and failOpen lets pass', async (_, prepare, token) => {
    issuer.answers[path] = () => ({ status: 503, body: '' });
    await prepare();
    await expect(verifier({ mode: 'statusList' }).verify(await token())).rejects.toThrow(UnavailableError);
    const passed = await verifier({ mode: 'statusList', onUnavailable: 'failOpen' }).verify(await token());
    expect(passed.revocationChecked).toBe(false);
  });

  test('a list at another origin is not fetched, however well it is signed', async () => {
    const other = await Issuer.start();
    const uri = `${other.url}${path}`;
    const body = await issuer.statusList(1, [0], { sub: uri });
    other.answers[path] = () => ({ body });
    await expect(verifier({ mode: 'statusList' }).verify(await referring(0, uri))).rejects.toThrow(/which is not of/);
    expect(other.asked).toEqual({});
  });

  test('a list that unpacks to gigabytes is not unpacked', async () => {
    const { deflateSync } = await import('node:zlib');
    const body = await issuer.statusList(1, [0], { status_list: { bits: 1, lst: deflateSync(Buffer.alloc(20 * 1024 * 1024)).toString('base64url') } });
    issuer.answers[path] = () => ({ body });
    await expect(verifier({ mode: 'statusList' }).verify(await referring(0))).rejects.toThrow(/unpacked/);
  });
});

test.each<[string, Partial<VerifierOptions>]>([
  ['audience', { audience: [] }],
  ['clockTolerance', { clockTolerance: -1 }],
  ['mode', { mode: 'telepathy' as never }],
  ['identity', { mode: 'introspection' }],
  ['onUnavailable', { onUnavailable: 'open' as never }],
])('a wrong %s is told at once', (field, options) => {
  expect(() => verifier(options)).toThrow(new RegExp(`^${field}: `));
});

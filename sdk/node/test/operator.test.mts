import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  AgentAlreadyExistsError, AgentIdP, AgentIdentity, AgentNotFoundError, AuthenticationError, AuthorizationError, CredentialError, RateLimitError,
  SentryAgentError, UnavailableError, ValidationError, type CreatedAgent, type ImportLine,
} from '../src/index.js';
import { counted, serve, until } from './support/local.mjs';
import { Server, management, newAgent } from './support/server.mjs';

const groups = ['agents', 'credentials', 'rotationPolicies', 'secrets', 'revocations', 'audit', 'organizations', 'oauth', 'service'] as const;
type Method = (...values: unknown[]) => unknown;

/** Every method of every group, by its name. */
function methodsOf(idp: AgentIdP): [string, Method][] {
  return groups.flatMap((group) => {
    const of = idp[group] as unknown as Record<string, Method>;
    return Object.getOwnPropertyNames(Object.getPrototypeOf(of))
      .filter((name) => name !== 'constructor')
      .map((name): [string, Method] => [`${group}.${name}`, (...values) => of[name]?.(...values)]);
  });
}

test('every group of the client is walked', () => {
  const idp = new AgentIdP({ issuer: 'http://127.0.0.1:1', clientId: 'a', clientSecret: 'b' });
  expect(Object.keys(idp).filter((name) => name !== 'identity')).toEqual([...groups]);
});

test('every operation of the contract is reached, by one method each', async () => {
  const contract = parse(readFileSync(new URL('../../../docs/openapi.yaml', import.meta.url), 'utf8')) as { paths: Record<string, Record<string, unknown>> };
  const operations = Object.entries(contract.paths).flatMap(([path, item]) =>
    Object.keys(item)
      .filter((method) => ['get', 'put', 'post', 'delete', 'patch'].includes(method))
      .map((method) => `${method.toUpperCase()} ${path}`),
  );
  let asked = '';
  const idp = new AgentIdP({
    issuer: 'http://127.0.0.1:1',
    clientId: 'a',
    clientSecret: 'b',
    retries: 0,
    fetch: (input, init) => {
      const { pathname } = new URL(input);
      const forToken = pathname === '/oauth2/token' && (init?.headers as Record<string, string>)['authorization']?.startsWith('Basic');
      if (!forToken) asked = `${init?.method ?? ''} ${pathname}`;
      return Promise.resolve(new Response('{"access_token":"t","expires_in":60,"scope":"","items":[],"nextCursor":null}'));
    },
  });
  const matches = (operation: string): boolean => new RegExp(`^${operation.replace(/[.]/g, '\\.').replace(/\{\w+\}/g, '(x[0-9])')}$`).test(asked);
  const reached = new Map<string, string>();
  for (const [name, method] of methodsOf(idp)) {
    asked = '';
    const result = method('x1', 'x2', {}, {});
    await (Symbol.asyncIterator in Object(result) ? (result as AsyncIterable<unknown>)[Symbol.asyncIterator]().next() : result);
    const operation = operations.filter((each) => !reached.has(each)).find(matches) ?? operations.find(matches);
    expect(operation, `${name} asked for ${asked}, which is not in the contract`).toBeDefined();
    reached.set(operation ?? '', name);
  }
  expect(operations.filter((operation) => !reached.has(operation))).toEqual([]);
});

describe('against the real server', () => {
  const used = new Set<string>();
  let server: Server;
  let idp: AgentIdP;
  let agent: CreatedAgent;
  const reporter = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const folder = mkdtempSync(join(tmpdir(), 'agentidp-reporters-'));
  const reporters = join(folder, 'keys.json');
  beforeAll(async () => {
    const key = reporter.publicKey.export({ type: 'spki', format: 'pem' });
    writeFileSync(reporters, JSON.stringify({ public_keys: [{ key_identifier: 'host', key, is_current: true }] }));
    server = await Server.start({ LEAK_REPORT_KEYS_FILE: reporters });
    idp = watched(server.idp());
    agent = await server.register();
  });
  afterAll(async () => {
    await server.end();
    rmSync(folder, { recursive: true });
  });

  /** Notes which methods were used. */
  function watched(client: AgentIdP): AgentIdP {
    for (const group of groups) {
      const of = client[group];
      (client as unknown as Record<string, unknown>)[group] = new Proxy(of, {
        get: (target, name) => {
          used.add(`${group}.${String(name)}`);
          const value: unknown = Reflect.get(target, name);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    }
    return client;
  }

  test('an agent lives its life', async () => {
    const made = await idp.agents.create({ ...newAgent(), metadata: { model: 'small' } }).withResponse();
    expect(made).toMatchObject({ status: 201, etag: '"1"', replayed: false });
    expect(made.auditEventId).toMatch(/^[0-9a-f-]{36}$/);
    expect(made.requestId).not.toBe('');
    expect(made.headers.get('location')).toBe(`/agents/${made.data.id}`);
    const { id } = made.data;
    expect((await idp.agents.get(id)).metadata).toEqual({ model: 'small' });
    const changed = await idp.agents.update(id, { version: 'v1.1.0' }, { ifMatch: made.etag });
    expect(changed.version).toBe('v1.1.0');
    await expect(idp.agents.update(id, { version: 'v1.2.0' }, { ifMatch: made.etag })).rejects.toMatchObject({ code: 'PRECONDITION_FAILED', status: 412 });
    expect((await idp.agents.suspend(id, 'leaked on a laptop')).status).toBe('suspended');
    expect((await idp.agents.reactivate(id)).status).toBe('active');
    expect((await idp.agents.revoke(id)).status).toBe('revoked');
    await expect(idp.agents.suspend(id)).rejects.toMatchObject({ code: 'CONFLICT', status: 409 });
    const archived = await idp.agents.archive(id).withResponse();
    expect(archived).toMatchObject({ status: 204, data: undefined });
    expect(archived.auditEventId).toBeDefined();
  });

  test('lists are read over all pages, by page and at once', async () => {
    const owner = 'pages';
    const made = new Set<string>();
    for (let i = 0; i < 7; i++) made.add((await server.register({ owner })).id);
    const list = idp.agents.list({ owner, limit: 3 });
    const seen: string[] = [];
    for await (const each of list) seen.push(each.id);
    expect(new Set(seen)).toEqual(made);
    expect(seen).toHaveLength(7);
    const sizes: number[] = [];
    for await (const page of list.pages()) sizes.push(page.items.length);
    expect(sizes).toEqual([3, 3, 1]);
    const first = await list.page();
    const second = await idp.agents.list({ owner, limit: 3, cursor: first.nextCursor ?? '' }).page();
    expect(second.items.map(({ id }) => id)).toEqual(seen.slice(3, 6));
    expect(await list.toArray()).toHaveLength(7);
  });

  test('no more pages are fetched than are read', async () => {
    const { fetch, count } = counted();
    const mine = new AgentIdP({ issuer: server.issuer, credential: server.admin, fetch });
    for await (const each of mine.agents.list({ limit: 1 })) {
      expect(each.id).toBeDefined();
      break;
    }
    expect(count('/agents')).toBe(1);
  });

  test('credentials are made, listed, rotated and revoked', async () => {
    const made = await idp.credentials.create(agent.id, { label: 'blue' });
    expect(made.clientSecret).toMatch(/^sidp_/);
    const next = await idp.credentials.rotate(agent.id, made.id, { overlapSeconds: 60 });
    expect(next.rotatedFrom).toBe(made.id);
    await idp.credentials.revoke(agent.id, next.id);
    const states = new Map((await idp.credentials.list(agent.id).toArray()).map(({ id, status }) => [id, status]));
    expect(states.get(next.id)).toBe('revoked');
    expect(states.get(made.id)).toBe('active');
  });

  test('secrets are rotated by a policy, watched, browned out and retired', async () => {
    const agentType = 'rotor';
    const rules = { maxAgeSeconds: 7_776_000, overlapSeconds: 3600 };
    expect(await idp.rotationPolicies.set(agentType, rules)).toMatchObject({ agentType, ...rules, selfRotation: true });
    expect((await idp.rotationPolicies.list().toArray()).map((each) => each.agentType)).toEqual([agentType]);
    const rotor = await server.register({ agentType });
    const { id, clientId, clientSecret } = rotor.credential;
    expect((await idp.credentials.expiring().toArray()).map((each) => each.id)).toContain(id);
    const { credential_id: next } = await idp.oauth.rotate({ client_id: clientId, client_secret: clientSecret ?? '' });
    expect(next).not.toBe(id);
    const identity = new AgentIdentity({ issuer: server.issuer, credential: rotor.credential, instance: 'rotor-1' });
    await identity.getToken();
    await until('the use shows', async () => (await idp.credentials.uses(rotor.id, id)).stillUsing === 1);
    expect((await idp.credentials.uses(rotor.id, id, { withinSeconds: 3600 })).items).toMatchObject([{ instance: 'rotor-1', kind: 'name', movedTo: null }]);
    expect((await idp.credentials.brownout(rotor.id, id)).refusedUntil).not.toBeNull();
    await expect(identity.getToken({ resource: 'https://a.example.com' })).rejects.toThrow(CredentialError);
    expect((await idp.credentials.brownout(rotor.id, id, 0)).refusedUntil).toBeNull();
    expect((await idp.credentials.retire(rotor.id, id, 86_400)).retireAfterSeconds).toBe(86_400);
    expect((await idp.credentials.retire(rotor.id, id, null)).retireAfterSeconds).toBeNull();
    await idp.rotationPolicies.remove(agentType);
    expect(await idp.rotationPolicies.list().toArray()).toEqual([]);
  });

  test('secrets that leaked are looked up and reported', async () => {
    const { credential } = await server.register();
    const secret = credential.clientSecret ?? '';
    const keyId = secret.slice(5, 17);
    const status = async (): Promise<unknown> => (await idp.secrets.lookUp([keyId])).items;
    expect(await status()).toMatchObject([{ keyId, status: 'active', credentialId: credential.id }]);
    const report = JSON.stringify([{ token: secret, url: 'https://git.example.com/a' }, { token: 'nothing' }]);
    const signature = sign('sha256', Buffer.from(report), reporter.privateKey).toString('base64');
    await expect(idp.secrets.report(`${report} `, { keyId: 'host', signature })).rejects.toThrow(AuthenticationError);
    const verdicts = await idp.secrets.report(report, { keyId: 'host', signature });
    expect(verdicts.map(({ label }) => label)).toEqual(['true_positive', 'false_positive']);
    expect(verdicts[0]?.token_hash).toBe(createHash('sha256').update(secret).digest('hex'));
    expect(await status()).toMatchObject([{ keyId, status: 'revoked' }]);
  });

  test('agents are imported and exported line by line', async () => {
    const owner = 'fleet';
    const lines: ImportLine[] = Array.from({ length: 20 }, () => ({ ...newAgent(), owner }));
    const first: ImportLine = { ...newAgent(), owner, credential: { label: 'first' }, status: 'suspended' };
    lines[0] = first;
    const results = await idp.agents.import(lines).toArray();
    expect(results.map(({ line, result }) => [line, result])).toEqual(lines.map((_, i) => [i + 1, 'created']));
    expect(results.map(({ credential }) => credential?.label)).toEqual(['first', ...Array<undefined>(19).fill(undefined)]);
    const exported = await idp.agents.export({ owner }).toArray();
    expect(new Set(exported.map(({ email }) => email))).toEqual(new Set(lines.map(({ email }) => email)));
    expect(exported.filter(({ status }) => status === 'suspended').map(({ email }) => email)).toEqual([first.email]);
    expect(await idp.agents.export({ owner, status: 'suspended' }).toArray()).toHaveLength(1);
    const again = await idp.agents.import([...exported, { ...first, version: 'one' }]).toArray();
    expect(again.map(({ result }) => result)).toEqual([...Array<string>(20).fill('unchanged'), 'failed']);
    expect(again.at(-1)?.error?.code).toBe('VALIDATION_ERROR');
  });

  test('an import is answered while it is still being sent', async () => {
    const results: string[] = [];
    async function* lines(): AsyncGenerator<ImportLine> {
      for (let i = 1; i <= 5; i++) {
        yield newAgent();
        await until('the result of this line, which the next one waits for', () => results.length === i);
      }
    }
    for await (const { result } of idp.agents.import(lines())) results.push(result);
    expect(results).toEqual(Array(5).fill('created'));
  });

  test('an import that is left, fails or is refused ends its source, and is not repeated', async () => {
    let ended = 0;
    let asked = 0;
    const posted: typeof fetch = (input, init) => {
      if (new URL(input).pathname === '/agents/import') asked++;
      return fetch(input, init);
    };
    const mine = new AgentIdP({ issuer: server.issuer, credential: server.admin, fetch: posted });
    async function* lines(count: number): AsyncGenerator<ImportLine> {
      try {
        for (let i = 0; i < count; i++) yield await Promise.resolve(newAgent());
        if (count < 10) throw new RangeError('the file is cut off');
      } finally {
        ended++;
      }
    }
    for await (const { result } of mine.agents.import(lines(1_000_000))) {
      expect(result).toBe('created');
      break;
    }
    await until('the source ended', () => Promise.resolve(ended === 1));
    await expect(mine.agents.import(lines(3)).toArray()).rejects.toThrow(RangeError);
    expect([ended, asked]).toEqual([2, 2]);
    await mine.oauth.revoke(await mine.identity.getToken({ scope: 'agents:write', resource: [] }));
    await expect(mine.agents.import([newAgent()]).toArray()).rejects.toThrow(AuthenticationError);
    expect(asked).toBe(3);
    expect(await mine.agents.import([newAgent()]).toArray()).toMatchObject([{ result: 'created' }]);
    await expect(mine.agents.import([newAgent()], { signal: AbortSignal.abort(new RangeError('enough')) }).toArray()).rejects.toThrow(RangeError);
  });

  test('an answer of lines that breaks off is an error, and one that is overloaded is not sent again', async () => {
    let asked = 0;
    const { url } = await serve((req, res) => {
      if (req.url === '/oauth2/token') return res.end('{"access_token":"t","expires_in":60,"scope":""}');
      if (req.method === 'POST') {
        asked++;
        return res.writeHead(429, { 'retry-after': '0' }).end('{}');
      }
      res.write('{"email":"a"}\n{"email":', () => res.destroy());
      return undefined;
    });
    const mine = new AgentIdP({ issuer: url, clientId: 'a', clientSecret: 'b' });
    const seen: string[] = [];
    const read = async (): Promise<void> => {
      for await (const { email } of mine.agents.export()) seen.push(email);
    };
    await expect(read()).rejects.toThrow(UnavailableError);
    expect(seen).toEqual(['a']);
    await expect(mine.agents.import([newAgent()]).toArray()).rejects.toThrow(RateLimitError);
    expect(asked).toBe(1);
  });

  test('many agents are suspended by a selector, and that is undone', async () => {
    const owner = 'leaky';
    await idp.agents.import(Array.from({ length: 20 }, () => ({ ...newAgent(), owner }))).toArray();
    const wanted = { selector: { owner }, action: 'suspend', reason: 'leaked in a build log' } as const;
    expect(await idp.revocations.preview(wanted)).toMatchObject({ dryRun: true, matched: 20, changed: 20, owners: [{ owner, agents: 20 }] });
    expect(await idp.agents.list({ owner, status: 'suspended' }).toArray()).toEqual([]);
    const done = await idp.revocations.create(wanted, { idempotencyKey: 'the-leak' });
    expect(done).toMatchObject({ action: 'suspend', matched: 20, changed: 20, undoneBy: null });
    expect((await idp.revocations.create(wanted, { idempotencyKey: 'the-leak' }).withResponse()).replayed).toBe(true);
    const written = (id: string) => until('all is written', async () => (await idp.revocations.get(id)).status === 'completed');
    await written(done.id);
    expect(await idp.agents.list({ owner, status: 'suspended' }).toArray()).toHaveLength(20);
    const undone = await idp.revocations.undo(done.id, 'a false alarm');
    expect(undone).toMatchObject({ action: 'reactivate', undoes: done.id, changed: 20 });
    await written(undone.id);
    expect(await idp.agents.list({ owner, status: 'active' }).toArray()).toHaveLength(20);
    expect((await idp.revocations.list().toArray()).map(({ id }) => id)).toEqual([undone.id, done.id]);
    await expect(idp.revocations.create({ selector: {}, action: 'suspend' })).rejects.toThrow(ValidationError);
  });

  test('the record is read, proven and exported', async () => {
    const { auditEventId = '' } = await idp.agents.update(agent.id, { version: 'v2.0.0' }).withResponse();
    expect(await idp.audit.get(auditEventId)).toMatchObject({ action: 'agent.updated', agentId: agent.id });
    expect((await idp.audit.list({ agentId: agent.id, action: 'agent.updated' }).toArray()).map(({ id }) => id)).toContain(auditEventId);
    const proof = await idp.audit.prove(auditEventId);
    expect(proof.treeSize).toBeGreaterThan(proof.leafIndex);
    await until('a checkpoint', async () => Number((await idp.audit.checkpoint()).split('\n')[1]) >= proof.treeSize);
    expect(await idp.audit.key()).toMatch(/\+/);
    expect(await idp.audit.consistency({ from: 1, to: proof.treeSize })).toMatchObject({ from: 1, to: proof.treeSize });
    expect((await idp.audit.tile('0', `000.p/${Math.min(proof.treeSize, 255)}`)).byteLength).toBe(32 * Math.min(proof.treeSize, 255));
    expect((await idp.audit.entries(`000.p/${Math.min(proof.treeSize, 255)}`)).byteLength).toBeGreaterThan(100);
    const text = await new Response(await idp.audit.export({ format: 'ndjson' })).text();
    expect(text).toContain(auditEventId);
  });

  test('organizations are made, and acted in across', async () => {
    const made = await idp.organizations.create({ name: 'acme', maxAgents: 10 });
    expect((await idp.organizations.get(made.id)).name).toBe('acme');
    expect((await idp.organizations.update(made.id, { maxAgents: null })).maxAgents).toBeNull();
    expect((await idp.organizations.list().toArray()).map(({ name }) => name)).toContain('acme');
    const theirs = await idp.agents.create(newAgent(), { organizationId: made.id });
    expect(theirs.organizationId).toBe(made.id);
    expect((await idp.agents.list({ organizationId: made.id }).toArray()).map(({ id }) => id)).toEqual([theirs.id]);
    await expect(idp.agents.get(theirs.id)).rejects.toThrow(AgentNotFoundError);
  });

  test('the OAuth endpoints are there as they are', async () => {
    const { clientId, clientSecret } = agent.credential;
    const { access_token: token } = await idp.oauth.token({
      grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret ?? '', scope: 'invoices:read', resource: ['https://a.example.com', 'https://b.example.com'],
    });
    expect(await idp.oauth.introspect(token)).toMatchObject({ active: true, scope: 'invoices:read', aud: ['https://a.example.com', 'https://b.example.com'] });
    await idp.oauth.revoke(token);
    expect(await idp.oauth.introspect(token)).toEqual({ active: false });
    expect((await idp.oauth.metadata()).issuer).toBe(server.issuer);
    expect((await idp.oauth.openidMetadata()).issuer).toBe(server.issuer);
    expect((await idp.oauth.keys()).keys.length).toBeGreaterThan(0);
  });

  test('health and documentation are answered', async () => {
    expect((await idp.service.health()).status).toBe('ok');
    expect((await idp.service.live()).status).toBe('ok');
    expect((await idp.service.ready()).status).toBe('ok');
    expect(await idp.service.contractYaml()).toContain('openapi: 3.0.3');
    expect(await idp.service.contractJson()).toHaveProperty('paths');
    expect(await idp.service.apiDocs()).toContain('<html');
    expect((await idp.service.apiDocsAsset('swagger-ui.css')).byteLength).toBeGreaterThan(1000);
  });

  test('a key makes a thing once, and does not tell the secret twice', async () => {
    const wanted = newAgent();
    const first = await idp.agents.create(wanted, { idempotencyKey: 'make-the-reader' });
    const again = await idp.agents.create(wanted, { idempotencyKey: 'make-the-reader' }).withResponse();
    expect(again).toMatchObject({ replayed: true, data: { id: first.id, credential: { clientSecret: null } } });
  });

  test('an answer that is lost makes nothing twice', async () => {
    let lost = 0;
    const flaky: typeof fetch = async (input, init) => {
      const answer = await fetch(input, init);
      if (new URL(input).pathname !== '/agents' || lost++ > 0) return answer;
      throw new TypeError('fetch failed', { cause: Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }) });
    };
    const mine = new AgentIdP({ issuer: server.issuer, credential: server.admin, fetch: flaky });
    const wanted = newAgent();
    expect((await mine.agents.create(wanted).withResponse()).replayed).toBe(true);
    lost = 0;
    await expect(mine.agents.list({ email: wanted.email }).toArray()).resolves.toHaveLength(1);
  });

  test('what carries no key is not sent again', async () => {
    let sent = 0;
    const broken: typeof fetch = async (input, init) => {
      if (!new URL(input).pathname.endsWith('/suspend')) return fetch(input, init);
      sent++;
      throw new TypeError('fetch failed');
    };
    const mine = new AgentIdP({ issuer: server.issuer, credential: server.admin, fetch: broken });
    const error = await mine.agents.suspend(agent.id).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(sent).toBe(1);
  });

  test('each call has a token for its own scope, and more where that is asked for', async () => {
    const mine = server.idp();
    const scopes: unknown[] = [];
    const getAccessToken = mine.identity.getAccessToken.bind(mine.identity);
    mine.identity.getAccessToken = (request) => {
      scopes.push(request?.scope);
      return getAccessToken(request);
    };
    await mine.agents.get(agent.id);
    const other = await mine.agents.create({ ...newAgent(), capabilities: ['audit:read'] }, { scope: 'audit:read' });
    expect(other.capabilities).toEqual(['audit:read']);
    expect(scopes).toEqual([['agents:read'], ['agents:write', 'audit:read']]);
    await expect(mine.agents.create({ ...newAgent(), capabilities: ['audit:read'] })).rejects.toThrow(AuthorizationError);
  });

  test('a management token that was revoked is renewed', async () => {
    const mine = server.idp();
    await mine.agents.get(agent.id);
    await idp.oauth.revoke(await mine.identity.getToken({ scope: 'agents:read', resource: [] }));
    expect((await mine.agents.get(agent.id)).id).toBe(agent.id);
  });

  test('errors are classes that say what, where and why', async () => {
    const failure = (call: PromiseLike<unknown>): Promise<SentryAgentError> => Promise.resolve(call).then(() => expect.unreachable(), (e: unknown) => e as SentryAgentError);
    const { email } = agent;
    const wrong: unknown = await failure(idp.agents.create({ ...newAgent(), version: 'one', owner: '' }));
    if (!(wrong instanceof ValidationError)) return expect.unreachable();
    expect(wrong.fields.map(({ field }) => field).sort()).toEqual(['owner', 'version']);
    expect(wrong).toMatchObject({ code: 'VALIDATION_ERROR', status: 400, requestId: expect.stringMatching(/./) as string });
    expect(await failure(idp.agents.create({ ...newAgent(), email }))).toBeInstanceOf(AgentAlreadyExistsError);
    const missing = await failure(idp.agents.get('00000000-0000-4000-8000-00000000ffff'));
    expect(missing).toBeInstanceOf(AgentNotFoundError);
    expect(missing).toBeInstanceOf(SentryAgentError);
    expect(missing).toMatchObject({ name: 'AgentNotFoundError', code: 'AGENT_NOT_FOUND', status: 404 });
    expect(await failure(idp.credentials.rotate(agent.id, '00000000-0000-4000-8000-00000000ffff'))).toBeInstanceOf(CredentialError);
    expect(await failure(idp.agents.get('../organizations'))).toMatchObject({ code: 'NOT_FOUND' }); // and not the list of them
    for (const id of ['', '.', '..']) expect(await failure(idp.agents.archive(id))).toBeInstanceOf(ValidationError);
    const reader = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
    expect(await failure(new AgentIdP({ identity: reader }).agents.get(agent.id))).toBeInstanceOf(AuthorizationError);
  });

  test('what is no error of ours is one too', async () => {
    const { url } = await serve((req, res) => {
      if (req.url === '/oauth2/token') res.end('{"access_token":"t","expires_in":60,"scope":""}');
      else res.writeHead(Number(req.url?.slice(8)), { location: 'https://evil.example.com/' }).end('<html>');
    });
    const mine = new AgentIdP({ issuer: url, clientId: 'a', clientSecret: 'b', retries: 0 });
    const kinds: [string, typeof SentryAgentError][] = [
      ['401', AuthenticationError], ['403', AuthorizationError], ['429', RateLimitError], ['502', UnavailableError], ['500', SentryAgentError], ['302', SentryAgentError],
    ];
    for (const [status, kind] of kinds) {
      const error = await Promise.resolve(mine.agents.get(status)).catch((e: unknown) => e);
      expect((error as Error).constructor).toBe(kind);
      expect(error).toMatchObject({ code: 'UNEXPECTED_ANSWER', status: Number(status) });
    }
  });

  test('a call is a promise', async () => {
    const ends: string[] = [];
    await idp.service.live().finally(() => ends.push('finally'));
    expect(await idp.agents.get('..').catch(() => 'caught')).toBe('caught');
    expect(ends).toEqual(['finally']);
    await expect(idp.agents.get(agent.id, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });

  test('every method was used here', () => {
    expect(methodsOf(server.idp()).map(([name]) => name).filter((name) => !used.has(name))).toEqual([]);
    expect(management).toHaveLength(7);
  });
});

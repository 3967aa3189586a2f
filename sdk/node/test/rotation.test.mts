import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { AgentIdentity, AuthorizationError, CredentialError, RateLimitError, type AgentIdP, type CreatedAgent } from '../src/index.js';
import { counted } from './support/local.mjs';
import { Server } from './support/server.mjs';

let server: Server;
let idp: AgentIdP;
const folder = mkdtempSync(join(tmpdir(), 'agentidp-secret-'));
beforeAll(async () => {
  server = await Server.start();
  idp = server.idp();
});
afterAll(async () => {
  await server.end();
  rmSync(folder, { recursive: true });
});
afterEach(() => vi.unstubAllEnvs());

/** Rotates without an overlap: the old secret is dead at once, as after a compromise. */
function rotate(agent: CreatedAgent): Promise<{ clientId: string; clientSecret: string | null }> {
  return idp.credentials.rotate(agent.id, agent.credential.id, { overlapSeconds: 0 });
}

/** A resource that no token was asked for yet, so that one has to be. */
let resources = 0;
const another = (): { resource: string } => ({ resource: `https://${++resources}.example.com` });

test('a secret in a file is picked up when the file is replaced', async () => {
  const agent = await server.register();
  const file = join(folder, 'secret');
  writeFileSync(file, `${agent.credential.clientSecret ?? ''}\n`);
  const identity = new AgentIdentity({ issuer: server.issuer, clientId: agent.id, clientSecretFile: file });
  await identity.getToken(another());
  const next = await rotate(agent);
  await expect(identity.getToken(another())).rejects.toThrow(CredentialError);
  writeFileSync(file, next.clientSecret ?? '');
  expect(await identity.getToken(another())).toMatch(/^ey/);
});

test('a secret in the environment is picked up', async () => {
  const agent = await server.register();
  vi.stubEnv('AGENTIDP_CLIENT_SECRET', agent.credential.clientSecret ?? '');
  const identity = new AgentIdentity({ issuer: server.issuer, clientId: agent.id });
  await identity.getToken(another());
  vi.stubEnv('AGENTIDP_CLIENT_SECRET', (await rotate(agent)).clientSecret ?? '');
  expect(await identity.getToken(another())).toMatch(/^ey/);
});

test('a file named in the environment is picked up', async () => {
  const agent = await server.register();
  const file = join(folder, 'named');
  writeFileSync(file, agent.credential.clientSecret ?? '');
  vi.stubEnv('AGENTIDP_CLIENT_SECRET_FILE', file);
  const identity = new AgentIdentity({ issuer: server.issuer, clientId: agent.id });
  expect(await identity.getToken(another())).toMatch(/^ey/);
  rmSync(file);
  await expect(identity.getToken(another())).rejects.toMatchObject({ code: 'CREDENTIAL_UNREADABLE' });
});

test('a function is asked again where its credential is refused: nobody sees the rotation', async () => {
  const agent = await server.register();
  const next = await rotate(agent);
  let asked = 0;
  const { fetch, calls } = counted();
  const identity = new AgentIdentity({ issuer: server.issuer, fetch, credential: () => (asked++ === 0 ? agent.credential : next) });
  expect(await identity.getToken()).toMatch(/^ey/);
  expect(calls).toHaveLength(2);
});

test('setCredential goes on with the answer to a rotation', async () => {
  const agent = await server.register();
  const identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
  const before = await identity.getToken();
  identity.setCredential(await rotate(agent));
  expect(await identity.getToken()).not.toBe(before);
});

test('an agent rotates its own secret, and goes on with what was saved', async () => {
  const agent = await server.register({ agentType: 'rotor' });
  const identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
  await expect(identity.rotate()).rejects.toBeInstanceOf(AuthorizationError);
  await idp.rotationPolicies.set('rotor', { maxAgeSeconds: 86_400, overlapSeconds: 0 });
  const before = await identity.getToken();
  const failing = identity.rotate({ save: () => Promise.reject(new RangeError('the disk is full')) });
  await expect(failing).rejects.toThrow(RangeError);
  expect(await identity.getToken()).toBe(before);
  const saved: unknown[] = [];
  const next = await identity.rotate({ save: (credential) => void saved.push(credential) });
  expect(saved).toEqual([next]);
  expect(next.expiresAt?.getTime()).toBeGreaterThan(0);
  expect(await identity.getToken()).not.toBe(before);
  const used = new Map((await idp.credentials.list(agent.id).toArray()).map(({ id, lastUsedAt }) => [id, lastUsedAt]));
  expect(used.get(next.credentialId)).not.toBeNull();
});

test('a credential that is refused and does not change is told, and not sent again', async () => {
  const agent = await server.register();
  await idp.credentials.revoke(agent.id, agent.credential.id);
  const { fetch, calls } = counted();
  const identity = new AgentIdentity({ issuer: server.issuer, fetch, credential: agent.credential });
  await expect(identity.getToken()).rejects.toMatchObject({ name: 'CredentialError', code: 'invalid_client', status: 401 });
  expect(calls).toHaveLength(1);
});

test('a suspended agent gets no token, and gets one again when it is reactivated', async () => {
  const agent = await server.register();
  const identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
  const before = await identity.getToken();
  await idp.agents.suspend(agent.id, 'leaked on a laptop');
  expect(await idp.oauth.introspect(before)).toEqual({ active: false });
  await expect(identity.getToken(another())).rejects.toThrow(CredentialError);
  await idp.agents.reactivate(agent.id);
  expect(await identity.getToken(another())).toMatch(/^ey/);
});

test('an agent can ask about its token and end it', async () => {
  const agent = await server.register();
  const identity = new AgentIdentity({ issuer: server.issuer, credential: agent.credential });
  const token = await identity.getToken();
  expect(await identity.introspect(token)).toMatchObject({ active: true, sub: agent.id });
  await identity.revoke(token);
  expect(await identity.introspect(token)).toEqual({ active: false });
  expect(await identity.getToken()).not.toBe(token);
});

test('a server that is restarted is waited for', async () => {
  const mine = await Server.forTest();
  const agent = await mine.register();
  const identity = new AgentIdentity({ issuer: mine.issuer, credential: agent.credential, retries: 20, maxRetryDelayMs: 500 });
  await identity.getToken(another());
  await mine.kill();
  const token = identity.getToken(another());
  await mine.restart();
  expect(await token).toMatch(/^ey/);
});

test('429 is waited for as long as the server asks, or told', async () => {
  const mine = await Server.forTest({ RATE_LIMIT_CLIENT: '60' });
  const agent = await mine.register();
  const hasty = new AgentIdentity({ issuer: mine.issuer, credential: agent.credential, retries: 0 });
  let refused: unknown;
  while (refused === undefined) await hasty.getToken(another()).catch((error: unknown) => (refused = error));
  expect(refused).toBeInstanceOf(RateLimitError);
  expect((refused as RateLimitError).retryAfter).toBeGreaterThanOrEqual(1);
  const impatient = new AgentIdentity({ issuer: mine.issuer, credential: agent.credential, maxRetryDelayMs: 10 });
  await expect(impatient.getToken(another())).rejects.toThrow(RateLimitError);
  const patient = new AgentIdentity({ issuer: mine.issuer, credential: agent.credential, retries: 10 });
  expect(await patient.getToken(another())).toMatch(/^ey/);
});

import { deflateSync } from 'node:zlib';
import { SignJWT, exportJWK, generateKeyPair, type CryptoKey, type JWK } from 'jose';
import { serve } from './local.mjs';

/** An issuer of the test's own, which can do what the real one never would. */
export class Issuer {
  url = '';
  /** How often each path was asked for. */
  readonly asked: Record<string, number> = {};
  /** What is answered at a path beside metadata and keys. */
  readonly answers: Record<string, () => { status?: number; body: string }> = {};
  /** The metadata, to be changed. */
  readonly metadata: Record<string, unknown> = {};
  #keys: { kid: string; private: CryptoKey; public: JWK }[] = [];

  static async start(): Promise<Issuer> {
    const issuer = new Issuer();
    await issuer.rotate();
    const { url, close } = await serve((req, res) => {
      const path = req.url ?? '';
      issuer.asked[path] = (issuer.asked[path] ?? 0) + 1;
      const answer = issuer.answers[path];
      if (answer) {
        const { status = 200, body } = answer();
        res.writeHead(status).end(body);
      } else if (path === '/.well-known/jwks.json') {
        res.end(JSON.stringify({ keys: issuer.#keys.map((key) => key.public) }));
      } else {
        res.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/.well-known/jwks.json`, ...issuer.metadata }));
      }
    });
    issuer.url = url;
    issuer.close = close;
    return issuer;
  }

  close: () => Promise<void> = () => Promise.resolve();

  /** Signs with a new key from now on. */
  async rotate(): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair('ES256');
    const kid = String(this.#keys.length + 1);
    this.#keys.push({ kid, private: privateKey, public: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } });
  }

  /** An access token, with claims and header changed at will; undefined takes one away. */
  token(claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    return this.sign(
      { iss: this.url, sub: 'agent', client_id: 'agent', aud: 'https://invoices.example.com', iat: now, exp: now + 600, jti: 'one', scope: 'invoices:read', ...claims },
      { typ: 'at+jwt', ...header },
    );
  }

  /** A status list: one status for each token, packed as the draft says. */
  statusList(bits: number, statuses: number[], claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}): Promise<string> {
    const bytes = new Uint8Array(Math.ceil((statuses.length * bits) / 8));
    for (const [i, status] of statuses.entries()) {
      const bit = i * bits;
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (status << (bit & 7));
    }
    const status_list = { bits, lst: deflateSync(bytes).toString('base64url') };
    return this.sign({ sub: `${this.url}/statuslists/1`, iat: Math.floor(Date.now() / 1000), ttl: 60, status_list, ...claims }, { typ: 'statuslist+jwt', ...header });
  }

  sign(claims: Record<string, unknown>, header: Record<string, unknown>): Promise<string> {
    const key = this.#keys.at(-1);
    if (!key) throw new Error('there is no key');
    return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: key.kid, ...header }).sign(key.private);
  }
}

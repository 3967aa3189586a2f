import { readFile } from 'node:fs/promises';
import { CredentialError, invalid } from './errors.js';

/** What an agent authenticates with. The credentials that the management API makes can be given as they are. */
export interface ClientCredential {
  /** The agent's id. */
  clientId: string;
  /** The secret; null, where a repeated request made the credential, is refused. */
  clientSecret: string | null;
}

/** Gives the credential of the moment. It is asked before every token request, and once more where its credential was refused. */
export type CredentialSource = () => ClientCredential | Promise<ClientCredential>;

/** Where the credential comes from. Without any of these it is read from the environment, anew for every token. */
export interface CredentialOptions {
  /** The credential, or a function that gives the one of the moment. */
  credential?: ClientCredential | CredentialSource;
  /** The agent's id; `AGENTIDP_CLIENT_ID` unless it is set. */
  clientId?: string;
  /** The secret; `AGENTIDP_CLIENT_SECRET` unless it is set. */
  clientSecret?: string;
  /** A file that holds the secret and may be replaced at any time; `AGENTIDP_CLIENT_SECRET_FILE` unless it is set. */
  clientSecretFile?: string;
}

/** A credential that can be sent. */
export interface UsableCredential {
  clientId: string;
  clientSecret: string;
}

/** Reads the credential of the moment. */
export type ReadCredential = () => Promise<UsableCredential>;

/**
 * Chooses the one place the credential comes from.
 *
 * @throws {@link ValidationError} where there is none, or more than one.
 */
export function credentialSource(options: CredentialOptions): ReadCredential {
  const { credential } = options;
  if (credential !== undefined) {
    return async () => usable(await (typeof credential === 'function' ? credential() : credential));
  }
  const clientId = options.clientId ?? process.env['AGENTIDP_CLIENT_ID'];
  if (!clientId) throw invalid('clientId', 'required', 'give it, or set AGENTIDP_CLIENT_ID');
  if (options.clientSecret !== undefined) {
    if (options.clientSecretFile !== undefined) throw invalid('clientSecret', 'conflict', 'give either clientSecret or clientSecretFile');
    const { clientSecret } = options;
    return () => Promise.resolve(usable({ clientId, clientSecret }));
  }
  const file = options.clientSecretFile;
  if (file === undefined) environmentSecret(); // a missing one is told at once
  return async () => {
    const path = file ?? process.env['AGENTIDP_CLIENT_SECRET_FILE'];
    return usable({ clientId, clientSecret: path ? await secretOf(path) : environmentSecret() });
  };
}

function environmentSecret(): string {
  const { AGENTIDP_CLIENT_SECRET: secret, AGENTIDP_CLIENT_SECRET_FILE: file } = process.env;
  if (secret && file) throw invalid('clientSecret', 'conflict', 'AGENTIDP_CLIENT_SECRET and AGENTIDP_CLIENT_SECRET_FILE are both set');
  if (!secret && !file) throw invalid('clientSecret', 'required', 'give it, or set AGENTIDP_CLIENT_SECRET or AGENTIDP_CLIENT_SECRET_FILE');
  return secret ?? '';
}

async function secretOf(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    throw new CredentialError(`the secret cannot be read from ${path}`, { code: 'CREDENTIAL_UNREADABLE', cause });
  }
}

function usable({ clientId, clientSecret }: ClientCredential): UsableCredential {
  if (!clientId) throw invalid('clientId', 'required', 'it is empty');
  if (!clientSecret) throw invalid('clientSecret', 'required', 'it is empty, or was shown to an earlier request: rotate the credential');
  return { clientId, clientSecret };
}

/** The Basic header of a client (RFC 6749 §2.3.1): each part is form-encoded before they are joined. */
export function basic({ clientId, clientSecret }: UsableCredential): string {
  const encode = (part: string): string => new URLSearchParams([['', part]]).toString().slice(1);
  return `Basic ${Buffer.from(`${encode(clientId)}:${encode(clientSecret)}`).toString('base64')}`;
}

import type { Call } from './call.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type { BodyOf, CallOptions, CreateOptions, Credential, CredentialUses, IssuedCredential, QueryOf, TenantOptions } from './types.js';

/** What agents authenticate with: several at a time, rotated with an overlap. */
export class Credentials {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Makes a further credential, whose secret is shown this once. */
  create(agentId: string, credential: BodyOf<'createCredential'> = {}, options?: CreateOptions): Call<IssuedCredential> {
    return this.transport.call('createCredential', { path: { agentId }, body: credential, options });
  }

  /** Lists the credentials of an agent, newest first, never with a secret. */
  list(agentId: string, page: QueryOf<'listCredentials'> = {}, options?: CallOptions): Pages<Credential> {
    return this.transport.pages('listCredentials', { path: { agentId }, query: page, options });
  }

  /** Lists what ends, over all agents, soonest first; what has ended only with `expiresAfter`. */
  expiring(filter: QueryOf<'listExpiringCredentials'> = {}, options?: CallOptions): Pages<Credential> {
    return this.transport.pages('listExpiringCredentials', { query: filter, options });
  }

  /** Tells which instances of the agent got tokens with a credential, and which have moved on to another. */
  uses(agentId: string, credentialId: string, filter: QueryOf<'listCredentialUses'> = {}, options?: TenantOptions): Call<CredentialUses> {
    return this.transport.call('listCredentialUses', { path: { agentId, credentialId }, query: filter, options });
  }

  /** Refuses a credential for a while, a minute unless it is said: who still uses it shows. Its tokens stay good. 0 ends a brownout. */
  brownout(agentId: string, credentialId: string, durationSeconds?: number, options?: TenantOptions): Call<Credential> {
    return this.transport.call('brownOutCredential', { path: { agentId, credentialId }, body: { durationSeconds }, options });
  }

  /** Has a credential revoked once nobody has used it for so long, counted from now at the earliest; null takes that back. */
  retire(agentId: string, credentialId: string, unusedForSeconds: number | null, options?: TenantOptions): Call<Credential> {
    return this.transport.call('retireCredential', { path: { agentId, credentialId }, body: { unusedForSeconds }, options });
  }

  /**
   * Makes a successor with its secret. The old one lives on for `overlapSeconds` (a day unless it is set).
   *
   * The answer can be given to {@link AgentIdentity.setCredential} as it is.
   *
   * @throws {@link CredentialError} where there is no such credential, or it is not active.
   */
  rotate(agentId: string, credentialId: string, rotation: BodyOf<'rotateCredential'> = {}, options?: CreateOptions): Call<IssuedCredential> {
    return this.transport.call('rotateCredential', { path: { agentId, credentialId }, body: rotation, options });
  }

  /** Ends a credential and the tokens obtained with it. */
  revoke(agentId: string, credentialId: string, options?: TenantOptions): Call<void> {
    return this.transport.call('revokeCredential', { path: { agentId, credentialId }, options });
  }
}

import type { Introspection } from '../identity.js';
import type { ServerMetadata } from '../verifier/metadata.js';
import type { Call } from './call.js';
import type { Transport } from './transport.js';
import type { BodyOf, CallOptions, JsonWebKeys, RotatedSecret, TokenAnswer } from './types.js';

/** The OAuth endpoints as they are. Agents want {@link AgentIdentity}, services {@link createVerifier}. */
export class OAuth {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Gets a token for the client whose id and secret are given (RFC 6749 §4.4). It is not kept. */
  token(request: BodyOf<'issueToken'>, options?: CallOptions): Call<TokenAnswer> {
    return this.transport.call('issueToken', { body: request, options });
  }

  /** Asks whether any token of the organization holds (RFC 7662). */
  introspect(token: string, options?: CallOptions): Call<Introspection> {
    return this.transport.call('introspectToken', { body: { token }, options });
  }

  /** Ends any token of the organization (RFC 7009). */
  revoke(token: string, options?: CallOptions): Call<void> {
    return this.transport.call('revokeToken', { body: { token }, options });
  }

  /** Makes a successor to the client's own secret. Agents want {@link AgentIdentity.rotate}. */
  rotate(client: BodyOf<'rotateOwnSecret'>, options?: CallOptions): Call<RotatedSecret> {
    return this.transport.call('rotateOwnSecret', { body: client, options });
  }

  /** The server's metadata (RFC 8414). */
  metadata(options?: CallOptions): Call<ServerMetadata> {
    return this.transport.call('serverMetadata', { options });
  }

  /** The same where OpenID Connect clients look for it. */
  openidMetadata(options?: CallOptions): Call<ServerMetadata> {
    return this.transport.call('openidMetadata', { options });
  }

  /** The keys that verify tokens (RFC 7517). */
  keys(options?: CallOptions): Call<JsonWebKeys> {
    return this.transport.call('keySet', { options });
  }
}

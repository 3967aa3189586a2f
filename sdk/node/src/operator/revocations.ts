import type { Call } from './call.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type { CallOptions, CreateOptions, NewRevocation, QueryOf, Revocation, RevocationPreview, TenantOptions } from './types.js';

/** What is done to many agents at once: all that a selector matches. */
export class Revocations {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Counts what {@link Revocations.create} would touch, and does nothing. */
  preview(revocation: NewRevocation, options?: TenantOptions): Call<RevocationPreview> {
    return this.transport.call('startRevocation', { body: { ...revocation, dryRun: true }, options }) as Call<RevocationPreview>;
  }

  /**
   * Suspends or revokes every agent that the selector matches, or ends its tokens. Once this has answered it is in effect; while its
   * `status` is `running` a job still writes it to the agents, and {@link Revocations.get} tells how far that is.
   *
   * @throws {@link ValidationError} where the selector is empty.
   */
  create(revocation: NewRevocation, options?: CreateOptions): Call<Revocation> {
    return this.transport.call('startRevocation', { body: { ...revocation, dryRun: false }, options }) as Call<Revocation>;
  }

  /** Lists what was done, newest first. */
  list(page: QueryOf<'listRevocations'> = {}, options?: CallOptions): Pages<Revocation> {
    return this.transport.pages('listRevocations', { query: page, options });
  }

  /** Reads one, and how far it is written. */
  get(revocationId: string, options?: TenantOptions): Call<Revocation> {
    return this.transport.call('getRevocation', { path: { revocationId }, options });
  }

  /**
   * Reactivates the agents that a suspension suspended and that nobody has changed since, for 30 days after it. Their old tokens
   * stay dead. Management scopes among their capabilities need a token that carries them: name them in `options.scope`.
   */
  undo(revocationId: string, reason?: string, options?: CreateOptions): Call<Revocation> {
    return this.transport.call('undoRevocation', { path: { revocationId }, body: { reason }, options });
  }
}

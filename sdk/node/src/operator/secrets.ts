import type { Call } from './call.js';
import type { Transport } from './transport.js';
import type { CallOptions, LeakVerdict, SecretList, TenantOptions } from './types.js';

/** Who signed a report of leaks. */
export interface LeakSignature {
  /** The id of the key. */
  keyId: string;
  /** ECDSA P-256 with SHA-256 over the report, in base64. */
  signature: string;
}

/** Secrets that were found where they must not be. */
export class Secrets {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Tells what has become of secrets, by their key ids: the 12 characters after `sidp_`, which are no secret. */
  lookUp(keyIds: string[], options?: TenantOptions): Call<SecretList> {
    return this.transport.call('lookUpSecrets', { body: { keyIds }, options });
  }

  /**
   * Reports leaked secrets, as a host of code does. A secret of this provider is ended. The report is a JSON list of `{ token, … }`,
   * sent as it was signed, to the byte. It needs no token.
   *
   * @throws {@link AuthenticationError} where no key that the server knows signed it.
   */
  report(report: string, { keyId, signature }: LeakSignature, options?: CallOptions): Call<LeakVerdict[]> {
    const headers = { 'github-public-key-identifier': keyId, 'github-public-key-signature': signature };
    return this.transport.call('reportLeaks', { raw: report, headers, options });
  }
}

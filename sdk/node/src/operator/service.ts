import type { Call } from './call.js';
import type { Transport } from './transport.js';
import type { CallOptions, Health } from './types.js';

/** Health and documentation of the server. None of it needs a token. */
export class Service {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** How the server and each of its dependencies are; `unavailable` is an answer, not an error. */
  health(options?: CallOptions): Call<Health> {
    return this.transport.call('health', { options });
  }

  /** Whether the process runs. */
  live(options?: CallOptions): Call<Health> {
    return this.transport.call('live', { options });
  }

  /** Whether requests should be sent here. */
  ready(options?: CallOptions): Call<Health> {
    return this.transport.call('ready', { options });
  }

  /** The contract as it is kept, in YAML. */
  contractYaml(options?: CallOptions): Call<string> {
    return this.transport.call('contractYAML', { options });
  }

  /** The contract in JSON. */
  contractJson(options?: CallOptions): Call<Record<string, unknown>> {
    return this.transport.call('contractJSON', { options });
  }

  /** The page that shows the contract. */
  apiDocs(options?: CallOptions): Call<string> {
    return this.transport.call('apiDocs', { options });
  }

  /** A file of that page. */
  apiDocsAsset(asset: string, options?: CallOptions): Call<Uint8Array> {
    return this.transport.call('apiDocsAsset', { path: { asset }, options });
  }
}

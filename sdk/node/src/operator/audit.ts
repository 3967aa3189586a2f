import type { Call } from './call.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type { AuditEvent, AuditProof, CallOptions, ConsistencyProof, QueryOf, TenantOptions } from './types.js';

/** The record of everything, and its proofs. */
export class Audit {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Lists events, newest first. */
  list(filter: QueryOf<'listEvents'> = {}, options?: CallOptions): Pages<AuditEvent> {
    return this.transport.pages('listEvents', { query: filter, options });
  }

  /** Reads an event. */
  get(eventId: string, options?: TenantOptions): Call<AuditEvent> {
    return this.transport.call('getEvent', { path: { eventId }, options });
  }

  /** All that is needed to verify offline that an event is in the record. */
  prove(eventId: string, options?: TenantOptions): Call<AuditProof> {
    return this.transport.call('proveEvent', { path: { eventId }, options });
  }

  /** Streams events, oldest first. A stream that fails before its end is not complete: go on with `after`. */
  export(filter: QueryOf<'exportEvents'> = {}, options?: CallOptions): Call<ReadableStream<Uint8Array>> {
    return this.transport.call('exportEvents', { query: filter, options });
  }

  /** The newest checkpoint of the record, a signed note. */
  checkpoint(options?: CallOptions): Call<string> {
    return this.transport.call('checkpoint', { options });
  }

  /** The key that verifies checkpoints, one line. */
  key(options?: CallOptions): Call<string> {
    return this.transport.call('checkpointKey', { options });
  }

  /** The proof that the record only grew between two sizes. */
  consistency(sizes: QueryOf<'proveConsistency'>, options?: CallOptions): Call<ConsistencyProof> {
    return this.transport.call('proveConsistency', { query: sizes, options });
  }

  /** A tile of the tree (C2SP tlog-tiles), such as `tile('0', '000.p/5')`. */
  tile(level: string, index: string, options?: CallOptions): Call<Uint8Array> {
    return this.transport.call('tile', { path: { level, index }, options });
  }

  /** The canonical bytes of a tile's events, of all organizations; for the operator. */
  entries(index: string, options?: CallOptions): Call<Uint8Array> {
    return this.transport.call('entries', { path: { index }, options });
  }
}

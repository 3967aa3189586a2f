/** An answer with what came beside its body. */
export interface Answer<T> {
  /** What was asked for. */
  data: T;
  /** The HTTP status. */
  status: number;
  /** Names the request: the same id stands in the server's log and in its audit record. */
  requestId: string | undefined;
  /** The state of what was answered, for `ifMatch`. */
  etag: string | undefined;
  /** The receipt: the id of the audit event that records the change. */
  auditEventId: string | undefined;
  /** Whether an earlier request under the same idempotency key had made it. */
  replayed: boolean;
  /** All headers. */
  headers: Headers;
}

/** A call under way. Await it for the data, or `withResponse()` for what came beside. */
export class Call<T> implements Promise<T> {
  readonly [Symbol.toStringTag] = 'Call';
  readonly #answer: Promise<Answer<T>>;

  /** @internal */
  constructor(answer: Promise<Answer<T>>) {
    this.#answer = answer;
  }

  /** The data with status, request id, `ETag` and receipt. */
  withResponse(): Promise<Answer<T>> {
    return this.#answer;
  }

  /** As of any promise. */
  then<A = T, B = never>(onData?: ((data: T) => A | PromiseLike<A>) | null, onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    return this.#answer.then((answer) => answer.data).then(onData, onError);
  }

  /** As of any promise. */
  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.then(undefined, onError);
  }

  /** As of any promise. */
  finally(onEnd?: (() => void) | null): Promise<T> {
    return this.then().finally(onEnd);
  }
}

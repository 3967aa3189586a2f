/** Answers that come one by one, as far as they are read. Nothing is sent before the first is asked for. */
export class Lines<T> implements AsyncIterable<T> {
  readonly #start: () => AsyncGenerator<T, void, undefined>;

  /** @internal */
  constructor(start: () => AsyncGenerator<T, void, undefined>) {
    this.#start = start;
  }

  /** Sends the request, and reads. Who leaves early ends the request. */
  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    return this.#start();
  }

  /** All at once: for what is known to be short. */
  async toArray(): Promise<T[]> {
    const items: T[] = [];
    for await (const item of this) items.push(item);
    return items;
  }
}

/** What can be sent line by line. */
export type Source<T> = Iterable<T> | AsyncIterable<T>;

/** A body of JSON values, one a line (NDJSON), each taken from its source when the server has room for it. */
export class Upload {
  /** The bytes. They can be sent once. */
  readonly body: ReadableStream<Uint8Array>;
  /** Why the source failed, where it did. */
  failure: { reason: unknown } | undefined;
  readonly #source: Iterator<unknown, unknown> | AsyncIterator<unknown, unknown>;

  constructor(source: Source<unknown>) {
    this.#source = (source as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator]?.() ?? (source as Iterable<unknown>)[Symbol.iterator]();
    const encoder = new TextEncoder();
    this.body = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          try {
            const { done, value } = await this.#source.next();
            if (done) controller.close();
            else controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
          } catch (reason) {
            this.failure = { reason };
            throw reason;
          }
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Lets go of the source. It is not waited for: it may itself be waiting for something. */
  end(): void {
    try {
      Promise.resolve(this.#source.return?.()).catch(() => undefined);
    } catch {
      // what a source that nobody reads says is nobody's
    }
  }
}

/** The JSON values of a body, one a line. */
export async function* valuesOf<T>(body: ReadableStream<Uint8Array>): AsyncGenerator<T, void, undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield JSON.parse(line) as T;
  }
  if (rest !== '') yield JSON.parse(rest) as T;
}

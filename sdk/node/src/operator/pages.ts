/** One page of a list. */
export interface Page<T> {
  /** What is on it. */
  items: T[];
  /** Where the next page begins; null on the last one. */
  nextCursor: string | null;
}

/**
 * A list that is fetched page by page, as far as it is read.
 *
 * @example
 * ```ts
 * for await (const agent of idp.agents.list({ owner: 'finance' })) console.log(agent.email);
 * ```
 */
export class Pages<T> implements AsyncIterable<T> {
  readonly #fetch: (cursor: string | undefined) => Promise<Page<T>>;

  /** @internal */
  constructor(fetch: (cursor: string | undefined) => Promise<Page<T>>) {
    this.#fetch = fetch;
  }

  /** All items, over all pages. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.pages()) yield* page.items;
  }

  /** Page by page. */
  async *pages(): AsyncGenerator<Page<T>, void, undefined> {
    let cursor: string | undefined;
    do {
      const page = await this.#fetch(cursor);
      yield page;
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** The one page that the filter's `cursor` names, or the first. */
  page(): Promise<Page<T>> {
    return this.#fetch(undefined);
  }

  /** All items at once: for lists that are known to be short. */
  async toArray(): Promise<T[]> {
    const items: T[] = [];
    for await (const item of this) items.push(item);
    return items;
  }
}

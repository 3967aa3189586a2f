import { invalid } from './errors.js';

/**
 * Reads the issuer, from the options or from `AGENTIDP_ISSUER`.
 *
 * @throws {@link ValidationError} where it is no http or https URL without query and trailing slash.
 */
export function issuerOf(option: string | undefined): string {
  const issuer = option ?? process.env['AGENTIDP_ISSUER'];
  if (!issuer) throw invalid('issuer', 'required', 'give it, or set AGENTIDP_ISSUER');
  const url = URL.canParse(issuer) ? new URL(issuer) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash || url.username || issuer.endsWith('/')) {
    throw invalid('issuer', 'pattern', 'it must be an http or https URL without query, fragment and trailing slash');
  }
  return issuer;
}

/** Words that are given as a list, or as one text with spaces between them. */
export type Words = string | readonly string[];

/** The words, each once and in order, so that the same ones are always the same text. */
export function wordsOf(words: Words | undefined): string[] {
  const list = typeof words === 'string' ? words.split(' ') : (words ?? []);
  return [...new Set(list.filter((word) => word !== ''))].sort();
}

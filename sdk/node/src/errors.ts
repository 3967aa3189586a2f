/** What is known of a failure beside its message. */
export interface ErrorInfo {
  /** The machine-readable code, of the API (`AGENT_NOT_FOUND`) or of OAuth (`invalid_client`). */
  code: string;
  /** The HTTP status; 0 where there was no answer. */
  status?: number;
  /** What the server said beside the message, such as `fields`. */
  details?: Record<string, unknown>;
  /** The `X-Request-Id` of the answer: the same id stands in the server's log and in its audit record. */
  requestId?: string;
  /** How long the server asks to be left alone, in seconds. */
  retryAfter?: number;
  /** The failure beneath. */
  cause?: unknown;
}

/** Every failure of this SDK is one of these; `code` says which, for programs. */
export class SentryAgentError extends Error {
  override name = 'SentryAgentError';
  /** The machine-readable code, of the API (`AGENT_NOT_FOUND`), of OAuth (`invalid_client`), or `UNAVAILABLE`, `TIMEOUT`, `UNEXPECTED_ANSWER`. */
  readonly code: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** What the server said beside the message. */
  readonly details: Readonly<Record<string, unknown>>;
  /** The `X-Request-Id` of the answer, where there was one. */
  readonly requestId: string | undefined;
  /** How long the server asks to be left alone, in seconds, where it says so. */
  readonly retryAfter: number | undefined;

  constructor(message: string, info: ErrorInfo) {
    super(message, info.cause === undefined ? undefined : { cause: info.cause });
    this.code = info.code;
    this.status = info.status ?? 0;
    this.details = info.details ?? {};
    this.requestId = info.requestId;
    this.retryAfter = info.retryAfter;
  }
}

/** A field that breaks a rule. */
export interface InvalidField {
  /** The field, dotted, with indexes. */
  field: string;
  /** The rule it breaks: `required`, `pattern`, `enum`, `maximum`, `unknown` … */
  rule: string;
  /** For people. */
  message: string;
}

/** The request, or an option of this SDK, breaks a rule. */
export class ValidationError extends SentryAgentError {
  override name = 'ValidationError';

  /** Every field that breaks a rule, all of them at once. */
  get fields(): readonly InvalidField[] {
    return Array.isArray(this.details['fields']) ? (this.details['fields'] as InvalidField[]) : [];
  }
}

/** There is no such agent in the organization. */
export class AgentNotFoundError extends SentryAgentError {
  override name = 'AgentNotFoundError';
}

/** The email is taken in the organization. */
export class AgentAlreadyExistsError extends SentryAgentError {
  override name = 'AgentAlreadyExistsError';
}

/** A credential was refused (`invalid_client`), is not there, or may not be changed so. */
export class CredentialError extends SentryAgentError {
  override name = 'CredentialError';
}

/** There is no valid token: 401. */
export class AuthenticationError extends SentryAgentError {
  override name = 'AuthenticationError';
}

/** The token does not reach that far, or the agent may not have what it asked for: 403, or `invalid_scope`. */
export class AuthorizationError extends SentryAgentError {
  override name = 'AuthorizationError';
}

/** Too many requests: 429. `retryAfter` says how many seconds to wait. */
export class RateLimitError extends SentryAgentError {
  override name = 'RateLimitError';
}

/** There was no answer, none in time, or the server cannot serve right now. */
export class UnavailableError extends SentryAgentError {
  override name = 'UnavailableError';
}

type ErrorClass = new (message: string, info: ErrorInfo) => SentryAgentError;

const byCode: Readonly<Record<string, ErrorClass>> = {
  VALIDATION_ERROR: ValidationError,
  AGENT_NOT_FOUND: AgentNotFoundError,
  AGENT_ALREADY_EXISTS: AgentAlreadyExistsError,
  CREDENTIAL_NOT_FOUND: CredentialError,
  CREDENTIAL_ERROR: CredentialError,
  AUTHENTICATION_REQUIRED: AuthenticationError,
  INSUFFICIENT_SCOPE: AuthorizationError,
  RATE_LIMITED: RateLimitError,
  UNAVAILABLE: UnavailableError,
  invalid_request: ValidationError,
  invalid_target: ValidationError,
  unsupported_grant_type: ValidationError,
  invalid_client: CredentialError,
  unauthorized_client: AuthorizationError,
  invalid_token: AuthenticationError,
  invalid_scope: AuthorizationError,
  insufficient_scope: AuthorizationError,
};

const byStatus: Readonly<Record<number, ErrorClass>> = {
  401: AuthenticationError,
  403: AuthorizationError,
  429: RateLimitError,
  502: UnavailableError,
  503: UnavailableError,
  504: UnavailableError,
};

/** Reads an answer that is an error, in the API's shape or in that of OAuth (RFC 6749 §5.2). */
export async function errorOf(response: Response): Promise<SentryAgentError> {
  const body = await readObject(response);
  const code = text(body['code']) ?? text(body['error']);
  const message = text(body['message']) ?? text(body['error_description']) ?? `the server answered ${response.status}`;
  const Class = (code === undefined ? undefined : byCode[code]) ?? byStatus[response.status] ?? SentryAgentError;
  return new Class(message, {
    code: code ?? 'UNEXPECTED_ANSWER',
    status: response.status,
    details: isObject(body['details']) ? body['details'] : {},
    requestId: response.headers.get('x-request-id') ?? undefined,
    retryAfter: retryAfter(response),
  });
}

/** Reads Retry-After (RFC 9110 §10.2.3), seconds or a date, as seconds from now. */
export function retryAfter(response: Response): number | undefined {
  const header = response.headers.get('retry-after');
  if (header === null) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** The refusal of options or arguments before anything is sent. */
export function invalid(field: string, rule: string, message: string): ValidationError {
  return new ValidationError(`${field}: ${message}`, { code: 'VALIDATION_ERROR', details: { fields: [{ field, rule, message }] } });
}

async function readObject(response: Response): Promise<Record<string, unknown>> {
  try {
    const body: unknown = await response.json();
    return isObject(body) ? body : {};
  } catch {
    return {}; // a proxy's page, or nothing at all: the status speaks
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

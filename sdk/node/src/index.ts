/**
 * SentryAgent AgentIdP for Node.js: {@link AgentIdentity} for agents, {@link createVerifier} for services that accept their
 * tokens, {@link AgentIdP} for operators.
 *
 * @packageDocumentation
 */
export { AgentIdentity, type FetchInit, type IdentityOptions, type Introspection, type RotateOptions, type RotatedCredential, type TokenRequest } from './identity.js';
export type { AccessToken } from './token-cache.js';
export type { ClientCredential, CredentialOptions, CredentialSource } from './credential.js';
export type { HttpOptions } from './http.js';
export type { RetryOptions } from './repeat.js';
export type { Words } from './settings.js';

export { createVerifier, type OnUnavailable, type Verifier, type VerifierOptions, type VerifyOptions } from './verifier/verifier.js';
export type { AccessTokenClaims, VerifiedToken } from './verifier/claims.js';
export { admit, type Admission, type BearerOptions, type Refusal } from './verifier/bearer.js';
export type { ServerMetadata } from './verifier/metadata.js';
export { expressBearer, type ExpressRequest, type ExpressResponse } from './middleware/express.js';
export { fastifyBearer, type FastifyReplyLike, type FastifyRequestLike } from './middleware/fastify.js';
export { honoBearer, type HonoContextLike } from './middleware/hono.js';
export { tokenOf } from './middleware/attached.js';

export { AgentIdP, type AgentIdPOptions } from './operator/client.js';
export { Agents, type AgentFilter } from './operator/agents.js';
export { Audit } from './operator/audit.js';
export { Credentials } from './operator/credentials.js';
export { OAuth } from './operator/oauth.js';
export { Organizations } from './operator/organizations.js';
export { Revocations } from './operator/revocations.js';
export { RotationPolicies } from './operator/rotation-policies.js';
export { Secrets, type LeakSignature } from './operator/secrets.js';
export { Service } from './operator/service.js';
export { Call, type Answer } from './operator/call.js';
export { Lines, type Source } from './operator/lines.js';
export { Pages, type Page } from './operator/pages.js';
export type {
  Agent, AgentPatch, AgentStatus, AuditEvent, AuditProof, BodyOf, CallOptions, ChangeOptions, ConsistencyProof, CreateOptions, CreatedAgent,
  Credential, CredentialUses, Health, ImportLine, ImportResult, IssuedCredential, JsonWebKeys, LeakVerdict, NewAgent, NewOrganization, NewRevocation, Organization,
  OrganizationPatch, QueryOf, Revocation, RevocationPreview, RotatedSecret, RotationPolicy, RotationPolicyRules, SecretList, TenantOptions, TokenAnswer,
} from './operator/types.js';

export {
  AgentAlreadyExistsError, AgentNotFoundError, AuthenticationError, AuthorizationError, CredentialError, RateLimitError, SentryAgentError,
  UnavailableError, ValidationError, type ErrorInfo, type InvalidField,
} from './errors.js';

import type { Schemas } from '../contract/types.js';
import type { Words } from '../settings.js';

/** An agent of the registry. */
export type Agent = Schemas['Agent'];
/** What is needed to register an agent. */
export type NewAgent = Schemas['NewAgent'];
/** An agent that was just registered, with its first credential. */
export type CreatedAgent = Schemas['CreatedAgent'];
/** Changes of an agent, as a JSON merge patch. */
export type AgentPatch = Schemas['AgentPatch'];
/** An agent as it is imported and exported. */
export type ImportLine = Schemas['ImportLine'];
/** What became of a line of an import. */
export type ImportResult = Schemas['ImportResult'];
/** The state of an agent's life. */
export type AgentStatus = Schemas['AgentStatus'];
/** A credential, without its secret. */
export type Credential = Schemas['Credential'];
/** A credential that was just made, with its secret. */
export type IssuedCredential = Schemas['IssuedCredential'];
/** Who still uses a credential. */
export type CredentialUses = Schemas['CredentialUses'];
/** How the credentials of agents of one type are rotated. */
export type RotationPolicy = Schemas['RotationPolicy'];
/** What a rotation policy can say. */
export type RotationPolicyRules = Schemas['RotationPolicyRules'];
/** The successor to a client's own secret, as the endpoint answers. */
export type RotatedSecret = Schemas['RotatedSecret'];
/** What has become of secrets. */
export type SecretList = Schemas['SecretList'];
/** Whether a reported secret is one of this provider. */
export type LeakVerdict = Schemas['LeakVerdicts'][number];
/** What is to be done to which agents. */
export type NewRevocation = Omit<Schemas['NewRevocation'], 'dryRun'>;
/** What was done to many agents at once. */
export type Revocation = Schemas['Revocation'];
/** What a revocation would touch. */
export type RevocationPreview = Schemas['BlastRadius'];
/** An event of the audit record. */
export type AuditEvent = Schemas['Event'];
/** The proof that an event is in the record. */
export type AuditProof = Schemas['Proof'];
/** The proof that the record only grew. */
export type ConsistencyProof = Schemas['Consistency'];
/** A tenant. */
export type Organization = Schemas['Organization'];
/** What is needed to make a tenant. */
export type NewOrganization = Schemas['NewOrganization'];
/** Changes of a tenant, as a JSON merge patch. */
export type OrganizationPatch = Schemas['OrganizationPatch'];
/** How the server and what it needs are. */
export type Health = Schemas['Health'];
/** What the token endpoint answers. */
export type TokenAnswer = Schemas['TokenAnswer'];
/** The public keys. */
export type JsonWebKeys = Schemas['KeySet'];

type Member<Name extends keyof Schemas, Key extends string> = Schemas[Name] extends { [K in Key]: infer M } ? M : never;
/** The parameters in the query of an operation: its filters. */
export type QueryOf<Operation extends keyof Schemas> = Member<Operation, 'query'>;
/** The body of an operation. */
export type BodyOf<Operation extends keyof Schemas> = Member<Operation, 'body'>;

/** What every call takes. */
export interface CallOptions {
  /** Ends the call. What was sent may have been carried out. */
  signal?: AbortSignal;
  /** How long each attempt may take, in milliseconds. */
  timeoutMs?: number;
  /** Scopes that the token must carry beside the one the operation asks for, such as those that are given to an agent. */
  scope?: Words;
}

/** What calls take that act in an organization. */
export interface TenantOptions extends CallOptions {
  /** Another organization to act in; for `organizations:admin` of the operator's organization. */
  organizationId?: string;
}

/** What calls take that make something. */
export interface CreateOptions extends TenantOptions {
  /**
   * The key under which it is made once, however often the call is repeated within a day. One is made up for each call unless
   * it is set, so that the SDK may repeat it. A repetition is not told the secret: `clientSecret` is null then.
   */
  idempotencyKey?: string;
}

/** What calls take that change something. */
export interface ChangeOptions extends TenantOptions {
  /** The `etag` that was seen: nothing is changed where it is not the present one (412). */
  ifMatch?: string;
}

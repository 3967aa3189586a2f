// Generated from docs/openapi.yaml by scripts/generate.mjs (npm run generate). Not to be edited.

/** The schemas of the contract, and query and body of each operation. */
export interface Schemas {
  /** active → suspended, revoked or archived; suspended → active, revoked or archived; revoked → archived */
  AgentStatus: "active" | "suspended" | "revoked" | "archived";
  DeploymentEnv: "development" | "staging" | "production";
  /** the kind of agent */
  AgentType: string;
  /** a semantic version, with an optional leading v */
  Version: string;
  Capability: string;
  /** what the agent may be given tokens for: the ceiling of its scope */
  Capabilities: Schemas["Capability"][];
  /** unique in the organization; kept in lower case */
  Email: string;
  /** the developer or team that answers for the agent; printable, without outer spaces */
  Owner: string;
  /** at most 16 KiB of JSON, nested at most 8 levels deep */
  Metadata: {
    [key: string]: unknown;
  };
  /** how long the agent's tokens live, in seconds; null: as configured. At most TOKEN_TTL_MAX. */
  TokenTtl: number | null;
  NewAgent: {
    email: Schemas["Email"];
    agentType: Schemas["AgentType"];
    version: Schemas["Version"];
    capabilities: Schemas["Capabilities"];
    owner: Schemas["Owner"];
    deploymentEnv: Schemas["DeploymentEnv"];
    metadata?: Schemas["Metadata"];
    tokenTtlSeconds?: Schemas["TokenTtl"];
  };
  ImportLine: {
    email: Schemas["Email"];
    agentType: Schemas["AgentType"];
    version: Schemas["Version"];
    capabilities: Schemas["Capabilities"];
    owner: Schemas["Owner"];
    deploymentEnv: Schemas["DeploymentEnv"];
    metadata?: Schemas["Metadata"];
    tokenTtlSeconds?: Schemas["TokenTtl"];
    /** what the agent begins as; where it is not given, an agent that exists may be either; active unless it is set */
    status?: "active" | "suspended";
    credential?: Schemas["NewCredential"];
  };
  ImportResult: {
    /** the line of the body, blank ones counted */
    line: number;
    result: "created" | "unchanged" | "failed";
    /** the agent that was created, or that has the email */
    id?: string;
    /** the agent's, where the line could be read so far */
    email?: string;
    /** the event that records the creation */
    auditEventId?: string;
    credential?: Schemas["IssuedCredential"];
    error?: Schemas["Error"];
  };
  AgentPatch: {
    agentType?: Schemas["AgentType"];
    version?: Schemas["Version"];
    capabilities?: Schemas["Capabilities"];
    owner?: Schemas["Owner"];
    deploymentEnv?: Schemas["DeploymentEnv"];
    /** merged into what is there; null empties it */
    metadata?: {
      [key: string]: unknown;
    } | null;
    tokenTtlSeconds?: Schemas["TokenTtl"];
  };
  Agent: {
    /** never changes */
    id: string;
    organizationId: string;
    email: Schemas["Email"];
    agentType: Schemas["AgentType"];
    version: Schemas["Version"];
    capabilities: Schemas["Capabilities"];
    owner: Schemas["Owner"];
    deploymentEnv: Schemas["DeploymentEnv"];
    status: Schemas["AgentStatus"];
    createdAt: string;
    updatedAt: string;
    /** when the agent last got a token, to a second */
    lastAuthAt: string | null;
    metadata: Schemas["Metadata"];
    tokenTtlSeconds: Schemas["TokenTtl"];
  };
  CreatedAgent: {
    /** never changes */
    id: string;
    organizationId: string;
    email: Schemas["Email"];
    agentType: Schemas["AgentType"];
    version: Schemas["Version"];
    capabilities: Schemas["Capabilities"];
    owner: Schemas["Owner"];
    deploymentEnv: Schemas["DeploymentEnv"];
    status: Schemas["AgentStatus"];
    createdAt: string;
    updatedAt: string;
    /** when the agent last got a token, to a second */
    lastAuthAt: string | null;
    metadata: Schemas["Metadata"];
    tokenTtlSeconds: Schemas["TokenTtl"];
    credential: Schemas["IssuedCredential"];
  };
  AgentList: {
    items: Schemas["Agent"][];
    nextCursor: Schemas["NextCursor"];
  };
  /** where the next page begins; null on the last one */
  NextCursor: string | null;
  Reason: {
    /** why, for the record; printable, without outer spaces */
    reason?: string;
  };
  /** printable, without outer spaces */
  Label: string;
  NewCredential: {
    label?: Schemas["Label"];
    /** in the future, within five years; null: never. A rotation policy may bring it nearer. */
    expiresAt?: string | null;
    /** a trap: who uses it is refused as everybody with a wrong secret is, and its agent is suspended */
    canary?: boolean;
  };
  Rotation: {
    /** how long the old credential lives on, in seconds; 86400 unless it is set */
    overlapSeconds?: number;
    label?: Schemas["Label"];
    /** when the successor expires: in the future, within five years; null: never */
    expiresAt?: string | null;
  };
  IssuedCredential: {
    id: string;
    /** the agent's id */
    clientId: string;
    /** shown this once; null where a request is repeated */
    clientSecret: string | null;
    label: Schemas["Label"];
    createdAt: string;
    expiresAt: string | null;
    /** the credential this one succeeds */
    rotatedFrom: string | null;
  };
  Credential: {
    id: string;
    agentId: string;
    label: Schemas["Label"];
    status: "active" | "expired" | "revoked";
    createdAt: string;
    expiresAt: string | null;
    /** when it last got a token, to a second */
    lastUsedAt: string | null;
    rotatedFrom: string | null;
    /** nobody should ever use it */
    canary: boolean;
    /** until then a brownout refuses it */
    refusedUntil: string | null;
    /** it is revoked once it is unused for so long */
    retireAfterSeconds: number | null;
  };
  Brownout: {
    /** @default 60 */
    durationSeconds?: number;
  };
  Retirement: {
    unusedForSeconds: number | null;
  };
  CredentialUses: {
    /** from when on uses were looked for */
    since: string;
    /** how many instances the agent has, whatever they use */
    instances: number;
    /** how many of them used this credential last */
    stillUsing: number;
    items: {
      instance: string;
      /** what it calls itself, or where it comes from; an IPv6 address stands for its /64 */
      kind: "name" | "address";
      firstUsedAt: string;
      lastUsedAt: string;
      /** the credential that it has used since */
      movedTo: string | null;
    }[];
  };
  RotationPolicyRules: {
    /** how old a credential may become; null: of any age */
    maxAgeSeconds?: number | null;
    /** how long a credential lives on once its successor was used; 86400 unless it is set */
    overlapSeconds?: number;
    /** how long before an end it is told of, by default a week and a day */
    warnBeforeSeconds?: number[];
    /** agents without management scopes may rotate by themselves, at `/oauth2/rotate`; true unless it is set */
    selfRotation?: boolean;
    /** what is done about a secret that was found where it must not be: its credential ends, or its agent is suspended as well; revoke unless it is set */
    onLeak?: "revoke" | "suspend";
  };
  RotationPolicy: {
    /** a type of agents, or `*` */
    agentType: string;
    maxAgeSeconds: number | null;
    overlapSeconds: number;
    /** longest first */
    warnBeforeSeconds: number[];
    selfRotation: boolean;
    onLeak: "revoke" | "suspend";
    updatedAt: string;
  };
  RotationPolicyList: {
    items: Schemas["RotationPolicy"][];
  };
  LeakReport: {
    /** what was found */
    token: string;
    /** the name of the pattern that found it */
    type?: string | null;
    /** where it was found */
    url?: string | null;
    /** in what it was found */
    source?: string | null;
  }[];
  LeakVerdicts: {
    token_hash: string;
    token_type: string;
    label: "true_positive" | "false_positive";
  }[];
  SecretLookup: {
    keyIds: string[];
  };
  SecretList: {
    items: {
      keyId: string;
      status: "active" | "expired" | "revoked" | "unknown";
      agentId: string | null;
      credentialId: string | null;
    }[];
  };
  ClientAuthentication: {
    client_id?: string;
    /** unless the client authenticates by Basic */
    client_secret?: string;
  };
  RotatedSecret: {
    client_id: string;
    /** shown this once */
    client_secret: string;
    /** seconds since 1970; 0 where it does not expire (RFC 7591 §3.2.1) */
    client_secret_expires_at: number;
    credential_id: string;
  };
  CredentialList: {
    items: Schemas["Credential"][];
    nextCursor: Schemas["NextCursor"];
  };
  Party: {
    /** agent, credential, token, organization, revocation, key, rotation_policy, system, request or anonymous */
    type: string;
    id: string;
  };
  /** what happened */
  Action: "agent.created" | "agent.updated" | "agent.suspended" | "agent.reactivated" | "agent.revoked" | "agent.archived" | "agent.tokens_revoked" | "credential.created" | "credential.rotated" | "credential.revoked" | "credential.superseded" | "credential.expiring" | "credential.expired" | "credential.leaked" | "credential.canary_used" | "credential.brownout" | "credential.retiring" | "rotation_policy.set" | "rotation_policy.removed" | "rotation_policy.applied" | "token.issued" | "token.denied" | "token.revoked" | "token.introspected" | "key.rotated" | "audit.exported" | "audit.dropped" | "authorization.denied" | "organization.created" | "organization.updated" | "revocation.created" | "revocation.completed";
  Event: {
    id: string;
    /** the place in the record of the whole installation, without gaps */
    sequence: number;
    time: string;
    organizationId: string;
    /** the agent the event is about */
    agentId: string | null;
    actor: Schemas["Party"];
    action: Schemas["Action"];
    target: Schemas["Party"];
    outcome: "success" | "denied";
    reason: string;
    requestId: string;
    sourceIp: string;
    details: {
      [key: string]: unknown;
    };
  };
  EventList: {
    items: Schemas["Event"][];
    nextCursor: Schemas["NextCursor"];
  };
  OrganizationName: string;
  /** printable, without outer spaces */
  DisplayName: string;
  /** how many agents it may have, archived ones not counted; null: no limit */
  MaxAgents: number | null;
  /** how many tokens a minute; null: no limit */
  TokenRate: number | null;
  /** its events are kept at least so many days; null: as configured */
  RetentionDays: number | null;
  NewOrganization: {
    name: Schemas["OrganizationName"];
    displayName?: Schemas["DisplayName"];
    maxAgents?: Schemas["MaxAgents"];
    tokenRatePerMinute?: Schemas["TokenRate"];
    auditRetentionDays?: Schemas["RetentionDays"];
    /** record introspections one by one */
    auditIntrospection?: boolean;
    /** drop no event, however old */
    legalHold?: boolean;
  };
  /** agents that every member agrees with */
  Selector: {
    /** one of these */
    agentIds?: string[];
    owner?: Schemas["Owner"];
    agentType?: Schemas["AgentType"];
    deploymentEnv?: Schemas["DeploymentEnv"];
    capability?: Schemas["Capability"];
    /**
     * what was issued before this time, which is not to come: with `tokens`, the tokens that end; else the agents that hold
     *     a live credential that was
     */
    issuedBefore?: string;
  };
  NewRevocation: {
    selector: Schemas["Selector"];
    action: "suspend" | "revoke" | "tokens";
    /** printable, without outer spaces; stands in every event */
    reason?: string;
    /** count and do nothing */
    dryRun?: boolean;
  };
  Revocation: {
    id: string;
    organizationId: string;
    /** `reactivate` undoes a suspension */
    action: "suspend" | "revoke" | "tokens" | "reactivate";
    /** as it was given; empty where a suspension is undone */
    selector: {
      [key: string]: unknown;
    };
    reason: string;
    status: "running" | "completed";
    /** agents that the selector matched */
    matched: number;
    /** agents of these that the action changed */
    changed: number;
    /** agents of these that are written */
    written: number;
    /** when it took effect */
    createdAt: string;
    completedAt: string | null;
    /** the suspension that this undoes */
    undoes: string | null;
    /** what undid this */
    undoneBy: string | null;
    /** a JWT of the type `revocation-receipt+jwt`, signed with a key of `/.well-known/jwks.json`; it says what was asked, by whom, when it took effect and what it changed, and names the event in the record */
    receipt: string;
  };
  RevocationList: {
    items: Schemas["Revocation"][];
    nextCursor: Schemas["NextCursor"];
  };
  BlastRadius: {
    dryRun: true;
    /** agents that the selector matches */
    matched: number;
    /** agents of these that the action would change */
    changed: number;
    /** live credentials of these */
    credentials: number;
    /** how many of these may hold a live token, and never less; tokens themselves are not counted */
    liveTokenHolders: number;
    /** whose they are, those of most first */
    owners: {
      owner: string;
      agents: number;
    }[];
    ownersTotal: number;
    /** the caller's own agent would be hit */
    includesCaller: boolean;
  };
  RevocationAnswer: Schemas["Revocation"] | Schemas["BlastRadius"];
  Proof: {
    /** the event's canonical bytes */
    leaf: string;
    leafIndex: number;
    treeSize: number;
    hashes: string[];
    /** a signed note */
    checkpoint: string;
  };
  Consistency: {
    from: number;
    to: number;
    hashes: string[];
  };
  OrganizationPatch: {
    displayName?: Schemas["DisplayName"];
    maxAgents?: Schemas["MaxAgents"];
    tokenRatePerMinute?: Schemas["TokenRate"];
    auditRetentionDays?: Schemas["RetentionDays"];
    auditIntrospection?: boolean;
    legalHold?: boolean;
  };
  Organization: {
    id: string;
    name: Schemas["OrganizationName"];
    displayName: Schemas["DisplayName"];
    maxAgents: Schemas["MaxAgents"];
    tokenRatePerMinute: Schemas["TokenRate"];
    auditRetentionDays: Schemas["RetentionDays"];
    auditIntrospection: boolean;
    legalHold: boolean;
    createdAt: string;
    updatedAt: string;
  };
  OrganizationList: {
    items: Schemas["Organization"][];
    nextCursor: Schemas["NextCursor"];
  };
  TokenRequest: {
    grant_type: "client_credentials";
    /** capabilities of the agent, separated by single spaces */
    scope?: string;
    /** absolute URIs without a fragment */
    resource?: string[];
    /** visible ASCII */
    audience?: string;
    client_id?: string;
    /** unless the client authenticates by Basic */
    client_secret?: string;
  };
  TokenAnswer: {
    /** a JWT after RFC 9068 */
    access_token: string;
    token_type: "Bearer";
    /** seconds */
    expires_in: number;
    scope: string;
  };
  IntrospectionRequest: {
    token: string;
    /** not needed */
    token_type_hint?: string;
    client_id?: string;
    /** unless the caller authenticates otherwise */
    client_secret?: string;
  };
  RevocationRequest: {
    token: string;
    /** not needed */
    token_type_hint?: string;
    client_id?: string;
    /** unless the caller authenticates otherwise */
    client_secret?: string;
  };
  Introspection: {
    active: boolean;
    scope?: string;
    client_id?: string;
    sub?: string;
    aud?: string | string[];
    iss?: string;
    exp?: number;
    iat?: number;
    nbf?: number;
    jti?: string;
    token_type?: "Bearer";
    /** the organization */
    org?: string;
    agent_type?: string;
    owner?: string;
    deployment_env?: string;
    /** the credential the token was obtained with */
    cid?: string;
  };
  Texts: string[];
  ServerMetadata: {
    issuer: string;
    token_endpoint: string;
    introspection_endpoint: string;
    revocation_endpoint: string;
    /** ours: where a client rotates its own secret */
    rotation_endpoint?: string;
    jwks_uri: string;
    grant_types_supported: Schemas["Texts"];
    response_types_supported: Schemas["Texts"];
    token_endpoint_auth_methods_supported: Schemas["Texts"];
    introspection_endpoint_auth_methods_supported?: Schemas["Texts"];
    revocation_endpoint_auth_methods_supported?: Schemas["Texts"];
    service_documentation?: string;
    subject_types_supported?: Schemas["Texts"];
    id_token_signing_alg_values_supported?: Schemas["Texts"];
  };
  KeySet: {
    keys: {
      kty: "EC" | "OKP" | "RSA";
      kid: string;
      alg: "ES256" | "EdDSA" | "RS256";
      use: "sig";
      crv?: string;
      x?: string;
      y?: string;
      n?: string;
      e?: string;
    }[];
  };
  Health: {
    status: "ok" | "degraded" | "unavailable";
    version?: string;
    checks?: {
      [key: string]: {
        status: "ok" | "unavailable";
      };
    };
  };
  Error: {
    code: "VALIDATION_ERROR" | "AGENT_NOT_FOUND" | "AGENT_ALREADY_EXISTS" | "CREDENTIAL_NOT_FOUND" | "CREDENTIAL_ERROR" | "AUTHENTICATION_REQUIRED" | "INSUFFICIENT_SCOPE" | "RATE_LIMITED" | "CONFLICT" | "PRECONDITION_FAILED" | "NOT_FOUND" | "METHOD_NOT_ALLOWED" | "PAYLOAD_TOO_LARGE" | "UNSUPPORTED_MEDIA_TYPE" | "UNAVAILABLE" | "INTERNAL";
    /** for people */
    message: string;
    details: {
      /** the scope that is missing */
      scope?: string;
      fields?: {
        /** the field, dotted, with indexes */
        field: string;
        /** the rule it breaks: required, pattern, enum, maximum, unknown, readOnly … */
        rule: string;
        message: string;
      }[];
    };
  };
  OAuthError: {
    error: "invalid_request" | "invalid_client" | "invalid_scope" | "invalid_target" | "unauthorized_client" | "unsupported_grant_type" | "invalid_token" | "insufficient_scope" | "temporarily_unavailable" | "server_error";
    error_description: string;
  };
  listAgents: {
    query: {
      organizationId?: string;
      status?: Schemas["AgentStatus"];
      /** agents of this type */
      agentType?: string;
      /** agents of this owner */
      owner?: string;
      deploymentEnv?: Schemas["DeploymentEnv"];
      /** agents that have this capability */
      capability?: string;
      /** the agent with this email */
      email?: string;
      limit?: number;
      cursor?: string;
    };
  };
  createAgent: {
    body: Schemas["NewAgent"];
  };
  importAgents: {
    body: string;
  };
  exportAgents: {
    query: {
      organizationId?: string;
      /** agents of this status; of both where it is not given */
      status?: "active" | "suspended";
      /** agents of this type */
      agentType?: string;
      /** agents of this owner */
      owner?: string;
      deploymentEnv?: Schemas["DeploymentEnv"];
      /** agents that have this capability */
      capability?: string;
    };
  };
  patchAgent: {
    body: Schemas["AgentPatch"];
  };
  suspendAgent: {
    body: Schemas["Reason"];
  };
  reactivateAgent: {
    body: Schemas["Reason"];
  };
  revokeAgent: {
    body: Schemas["Reason"];
  };
  listCredentials: {
    query: {
      organizationId?: string;
      limit?: number;
      cursor?: string;
    };
  };
  createCredential: {
    body: Schemas["NewCredential"];
  };
  rotateCredential: {
    body: Schemas["Rotation"];
  };
  listRevocations: {
    query: {
      organizationId?: string;
      limit?: number;
      cursor?: string;
    };
  };
  startRevocation: {
    body: Schemas["NewRevocation"];
  };
  undoRevocation: {
    body: Schemas["Reason"];
  };
  listCredentialUses: {
    query: {
      organizationId?: string;
      /** only what was used so recently, in seconds; 86400 unless it is set */
      withinSeconds?: number;
    };
  };
  brownOutCredential: {
    body: Schemas["Brownout"];
  };
  retireCredential: {
    body: Schemas["Retirement"];
  };
  listExpiringCredentials: {
    query: {
      organizationId?: string;
      /** credentials that end before this time; a + is written %2B */
      expiresBefore?: string;
      /** credentials that end at this time or later: now, where it is not given */
      expiresAfter?: string;
      limit?: number;
      cursor?: string;
    };
  };
  setRotationPolicy: {
    body: Schemas["RotationPolicyRules"];
  };
  reportLeaks: {
    body: Schemas["LeakReport"];
  };
  lookUpSecrets: {
    body: Schemas["SecretLookup"];
  };
  rotateOwnSecret: {
    body: Schemas["ClientAuthentication"];
  };
  listEvents: {
    query: {
      organizationId?: string;
      /** events about this agent */
      agentId?: string;
      /** events this actor caused */
      actorId?: string;
      action?: Schemas["Action"];
      /** events that ended so */
      outcome?: "success" | "denied";
      /** events at this time or later; a + is written %2B */
      from?: string;
      /** events before this time; a + is written %2B */
      to?: string;
      limit?: number;
      cursor?: string;
    };
  };
  exportEvents: {
    query: {
      organizationId?: string;
      /** lines of JSON, CSV, or lines of OCSF events; ndjson unless it is set */
      format?: "ndjson" | "csv" | "ocsf";
      /** the events of all organizations; needs `organizations:admin` of the operator; false unless it is set */
      all?: boolean;
      /** only events after this sequence */
      after?: number;
      /** events at this time or later; a + is written %2B */
      from?: string;
      /** events before this time; a + is written %2B */
      to?: string;
      /** with hashes and checkpoints, so that the export can be verified; `ndjson` only; false unless it is set */
      proof?: boolean;
    };
  };
  proveConsistency: {
    query: {
      /** the older size */
      from: number;
      /** the newer size; that of the newest checkpoint where it is not given */
      to?: number;
    };
  };
  listOrganizations: {
    query: {
      limit?: number;
      cursor?: string;
    };
  };
  createOrganization: {
    body: Schemas["NewOrganization"];
  };
  patchOrganization: {
    body: Schemas["OrganizationPatch"];
  };
  issueToken: {
    body: Schemas["TokenRequest"];
  };
  introspectToken: {
    body: Schemas["IntrospectionRequest"];
  };
  revokeToken: {
    body: Schemas["RevocationRequest"];
  };
}

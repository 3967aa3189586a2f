import { AgentIdentity, type IdentityOptions } from '../identity.js';
import type { HttpOptions } from '../http.js';
import { Agents } from './agents.js';
import { Audit } from './audit.js';
import { Credentials } from './credentials.js';
import { OAuth } from './oauth.js';
import { Organizations } from './organizations.js';
import { Revocations } from './revocations.js';
import { RotationPolicies } from './rotation-policies.js';
import { Secrets } from './secrets.js';
import { Service } from './service.js';
import { Transport } from './transport.js';

/** Who manages: an identity that is there already, or what makes one. */
export type AgentIdPOptions = IdentityOptions | ({ identity: AgentIdentity } & HttpOptions);

/**
 * The management API. Each call is made with a token for the one scope that it needs; tokens are kept as
 * {@link AgentIdentity} keeps them.
 *
 * @example
 * ```ts
 * const idp = new AgentIdP(); // AGENTIDP_ISSUER, AGENTIDP_CLIENT_ID, AGENTIDP_CLIENT_SECRET
 * for await (const agent of idp.agents.list({ status: 'active' })) console.log(agent.email);
 * ```
 */
export class AgentIdP {
  /** The identity that manages. */
  readonly identity: AgentIdentity;
  /** The registry and the lifecycle of agents. */
  readonly agents: Agents;
  /** What agents authenticate with. */
  readonly credentials: Credentials;
  /** How credentials are rotated. */
  readonly rotationPolicies: RotationPolicies;
  /** Secrets that were found where they must not be. */
  readonly secrets: Secrets;
  /** What is done to many agents at once. */
  readonly revocations: Revocations;
  /** The record of everything, and its proofs. */
  readonly audit: Audit;
  /** Tenants and their limits, for the operator. */
  readonly organizations: Organizations;
  /** The OAuth endpoints as they are. */
  readonly oauth: OAuth;
  /** Health and documentation. */
  readonly service: Service;

  /** @throws {@link ValidationError} where the issuer or the credential is missing, or given twice. */
  constructor(options: AgentIdPOptions = {}) {
    this.identity = 'identity' in options ? options.identity : new AgentIdentity(options);
    const transport = new Transport(this.identity, options);
    this.agents = new Agents(transport);
    this.credentials = new Credentials(transport);
    this.rotationPolicies = new RotationPolicies(transport);
    this.secrets = new Secrets(transport);
    this.revocations = new Revocations(transport);
    this.audit = new Audit(transport);
    this.organizations = new Organizations(transport);
    this.oauth = new OAuth(transport);
    this.service = new Service(transport);
  }
}

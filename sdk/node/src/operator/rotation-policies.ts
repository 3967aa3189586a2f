import type { Call } from './call.js';
import type { Pages } from './pages.js';
import type { Transport } from './transport.js';
import type { RotationPolicy, RotationPolicyRules, TenantOptions } from './types.js';

/** How the credentials of agents are rotated, by the type of the agents; `*` for all others. */
export class RotationPolicies {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Lists the policies, by agent type. */
  list(options?: TenantOptions): Pages<RotationPolicy> {
    return this.transport.pages('listRotationPolicies', { options });
  }

  /** Sets a policy; what is left out of the rules gets its default. New credentials end by it at once, present ones within minutes. */
  set(agentType: string, rules: RotationPolicyRules, options?: TenantOptions): Call<RotationPolicy> {
    return this.transport.call('setRotationPolicy', { path: { agentType }, body: rules, options });
  }

  /** Removes a policy. Ends that it gave to credentials stay. */
  remove(agentType: string, options?: TenantOptions): Call<void> {
    return this.transport.call('removeRotationPolicy', { path: { agentType }, options });
  }
}

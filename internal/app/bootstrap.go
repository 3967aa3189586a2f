package app

import (
	"context"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// AdminEmail is what the operator's first admin agent is called by default.
const AdminEmail = "admin@agentidp.local"

// operator is who works at the machine itself, and so holds every right.
func operator(command string) policy.Caller {
	return policy.Caller{Origin: audit.System(command), OrganizationID: organization.DefaultID(), Scopes: scope.Management()}
}

// Bootstrap makes an admin agent in the operator's organization, with every
// management scope. It fails with AGENT_ALREADY_EXISTS where the email is taken.
func (a *App) Bootstrap(ctx context.Context, email string) (credential.Issued, error) {
	_, issued, err := a.Agents.Create(ctx, operator("admin bootstrap"), organization.DefaultID(), agent.Draft{
		Email: email, Type: "administrator", Version: "1.0.0", Capabilities: scope.Management(), Owner: "operator", DeploymentEnv: a.environment(),
	})
	return issued, err
}

func (a *App) environment() string {
	if a.cfg.Production {
		return "production"
	}
	return "development"
}

// BootstrapEmpty is Bootstrap on an embedded database without a single agent;
// done says whether it was one.
func (a *App) BootstrapEmpty(ctx context.Context) (issued credential.Issued, done bool, err error) {
	if _, embedded := a.cfg.Embedded(); !embedded {
		return credential.Issued{}, false, nil
	}
	p, err := a.Agents.List(ctx, organization.DefaultID(), agent.Filter{}, page.Query{Limit: 1})
	if err != nil || len(p.Items) > 0 {
		return credential.Issued{}, false, err
	}
	issued, err = a.Bootstrap(ctx, AdminEmail)
	return issued, err == nil, err
}

// AdminFor gives a credential of the admin agent that lives for lifetime; earlier
// ones of the same label end. Where there is no admin agent yet, it is
// bootstrapped.
func (a *App) AdminFor(ctx context.Context, label string, lifetime time.Duration) (credential.Issued, error) {
	by, org := operator(label), organization.DefaultID()
	found, err := a.Agents.List(ctx, org, agent.Filter{Email: AdminEmail}, page.Query{Limit: 1})
	if err != nil {
		return credential.Issued{}, err
	}
	if len(found.Items) == 0 {
		return a.Bootstrap(ctx, AdminEmail)
	}
	admin := found.Items[0].ID
	all, err := a.Credentials.List(ctx, org, admin, page.Query{Limit: page.MaxLimit})
	if err != nil {
		return credential.Issued{}, err
	}
	for _, c := range all.Items {
		if c.Label == label && c.Status(a.now()) == credential.Active {
			if err := a.Credentials.Revoke(ctx, by, org, admin, c.ID); err != nil {
				return credential.Issued{}, err
			}
		}
	}
	return a.Credentials.Create(ctx, by, org, admin, credential.Request{Label: label, ExpiresAt: a.now().Add(lifetime)})
}

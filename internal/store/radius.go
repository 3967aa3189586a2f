package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
)

// noted is how much later than it is noted a credential may have been used.
const noted = time.Second

// Radius counts what an order would touch.
func (s *Store) Radius(ctx context.Context, organization uuid.UUID, o revocation.Order, l revocation.Lifetimes) (revocation.Radius, error) {
	var r revocation.Radius
	meant := selecting(organization, o, l.Now)
	change := changing(meant, o, decidedStatus)
	live := change
	usual, longest := live.arg(l.Now.Add(-l.Usual-noted)), live.arg(l.Now.Add(-l.Longest-noted))
	caller := live.arg(l.Caller)
	counted := "SELECT count(*), count(DISTINCT a.owner), " +
		"sum(CASE WHEN EXISTS (SELECT 1 FROM credentials o JOIN credential_uses u ON u.credential_id = o.id WHERE o.agent_id = a.id" +
		" AND (a.token_ttl = 0 AND u.last_used_at > " + usual + " OR a.token_ttl <> 0 AND u.last_used_at > " + longest + ")) THEN 1 ELSE 0 END), sum(CASE WHEN a.id = " + caller + " THEN 1 ELSE 0 END)" +
		" FROM agents a WHERE " + live.String()
	credentials := change
	now := credentials.arg(l.Now)
	for _, one := range []struct {
		query string
		args  []any
		scan  func(row scanner) error
	}{
		{"SELECT count(*) FROM agents a WHERE " + meant.String(), meant.args, func(row scanner) error { return row.Scan(&r.Matched) }},
		{counted, live.args, func(row scanner) error {
			var holders, callers sql.NullInt64
			err := row.Scan(&r.Changed, &r.OwnersTotal, &holders, &callers)
			r.LiveTokenHolders, r.IncludesCaller = holders.Int64, callers.Int64 > 0
			return err
		}},
		{
			"SELECT count(*) FROM agents a JOIN credentials c ON c.agent_id = a.id WHERE " + change.String() + " AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > " + now + ")",
			credentials.args, func(row scanner) error { return row.Scan(&r.Credentials) },
		},
		{
			"SELECT a.owner, count(*) AS n FROM agents a WHERE " + change.String() + " GROUP BY a.owner ORDER BY n DESC, a.owner LIMIT " + strconv.Itoa(revocation.MaxOwners),
			change.args, func(row scanner) error {
				var share revocation.OwnerShare
				err := row.Scan(&share.Owner, &share.Agents)
				r.Owners = append(r.Owners, share)
				return err
			},
		},
	} {
		_, err := listed(ctx, s, func(row scanner) (none struct{}, err error) { return none, one.scan(row) }, one.query, s.dialect.Once(slices.Clone(one.args))...)
		if err != nil {
			return r, broken("counting what would be touched", err)
		}
	}
	return r, nil
}

package main

import (
	"errors"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
)

// publishedBefore is how long a key is published before it signs: twice what
// clients may keep the key set for.
const publishedBefore = 10 * time.Minute

func (c *command) keys() *cobra.Command {
	keys := &cobra.Command{Use: "keys", Short: "The signing keys", Args: cobra.NoArgs, RunE: help}
	keys.AddCommand(c.listKeys(), c.rotateKeys())
	return keys
}

func (c *command) listKeys() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the signing keys",
		Long: `list prints the signing keys, oldest first: from when each signs, and when it leaves
the published key set. A key that retired more than a day ago is not shown.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withApp(cmd.Context(), cmd.ErrOrStderr(), func(a *app.App, _ *config.Config) error {
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
				printKeys(&printer{w: table}, a.Ring)
				hint := &printer{w: cmd.ErrOrStderr()}
				if len(a.Ring.List()) == 0 {
					hint.line("there is no signing key yet: serve makes the first one")
				}
				return errors.Join(table.Flush(), hint.err)
			})
		},
	}
}

func printKeys(out *printer, ring *keys.Ring) {
	signs := ""
	if signer, err := ring.Signer(time.Now()); err == nil {
		signs = signer.KID()
	}
	out.line("KID\tALG\tSTATE\tSIGNS FROM\tPUBLISHED UNTIL")
	for _, k := range ring.List() {
		out.line("%s\t%s\t%s\t%s\t%s", k.KID, k.Alg, keyState(k.KID == signs, k.ActivatesAt, k.RetiresAt), moment(k.ActivatesAt), moment(k.RetiresAt))
	}
}

func keyState(signs bool, activates, retires time.Time) string {
	now := time.Now()
	switch {
	case signs:
		return "signing"
	case !retires.IsZero() && now.After(retires):
		return "retired"
	case now.Before(activates):
		return "published"
	}
	return "verifying"
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (c *command) rotateKeys() *cobra.Command {
	var activateIn time.Duration
	var revokeOld bool
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Make the next signing key",
		Long: `rotate makes the next signing key. Running servers notice within five seconds.

As a routine, give no flag. The key is published at once and signs after
--activate-in, so that everybody who keeps the key set has it by then. Tokens that
older keys signed stay valid until they expire. With a shorter --activate-in servers
publish the key as they begin to use it, and older keys are still accepted for
TOKEN_TTL_MAX and five minutes more: that helps nothing after a compromise.

After a compromise of a signing key, or of the database together with the root
secret, give --revoke-old. The new key signs at once, every older one leaves the key
set, and what they signed, their owner or a thief, is refused; clients need new
tokens. Running servers follow within five seconds. Services that keep the key set
refuse the old keys when they read it again, within five minutes.`,
		Example: "  agentidp keys rotate\n  agentidp keys rotate --activate-in 1h\n  agentidp keys rotate --revoke-old",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if revokeOld && cmd.Flags().Changed("activate-in") && activateIn != 0 {
				return errors.New("--revoke-old: the new key signs at once, so leave --activate-in out")
			}
			return c.withApp(cmd.Context(), cmd.ErrOrStderr(), func(a *app.App, _ *config.Config) error {
				return rotateRing(cmd, a.Ring, activateIn, revokeOld)
			})
		},
	}
	rotate.Flags().DurationVar(&activateIn, "activate-in", publishedBefore, "how long the key is published before it signs")
	rotate.Flags().BoolVar(&revokeOld, "revoke-old", false, "after a compromise: the key signs at once, and what older keys signed is refused")
	return rotate
}

func rotateRing(cmd *cobra.Command, ring *keys.Ring, activateIn time.Duration, revokeOld bool) error {
	ctx, by, out := cmd.Context(), audit.System("keys rotate"), &printer{w: cmd.OutOrStdout()}
	if revokeOld {
		k, err := ring.Replace(ctx, by)
		if err != nil {
			return describe(err)
		}
		out.line("key %s (%s) is published, and signs from now; running servers take the older keys away within five seconds", k.KID, k.Alg)
		return out.err
	}
	// Where there is none, one key signs until the next one does.
	if err := ring.Ensure(ctx, by); err != nil {
		return err
	}
	k, err := ring.Rotate(ctx, by, activateIn)
	if err != nil {
		return describe(err)
	}
	out.line("key %s (%s) is published, and signs from %s", k.KID, k.Alg, moment(k.ActivatesAt))
	return out.err
}

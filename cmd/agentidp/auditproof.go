package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify"
)

// one verifies the proof of one event. The checkpoint in it may be older or newer than
// the remembered one, and is not remembered: a proof does not show the log.
func (v *verification) one(cmd *cobra.Command) error {
	in := cmd.InOrStdin()
	if v.proof != "-" {
		file, err := os.Open(v.proof)
		if err != nil {
			return fmt.Errorf("--proof: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	p, err := verify.ReadInclusion(in)
	if err != nil {
		return err
	}
	e, c, err := p.Verify(v.memory.Log())
	if err != nil {
		return err
	}
	growth, err := v.related(cmd, c)
	if err != nil {
		return errors.Join(err, v.evidence(&printer{w: cmd.ErrOrStderr()}, err, p.Checkpoint))
	}
	if v.pin != nil {
		if err := v.pin.Save(); err != nil {
			return err
		}
	}
	out := &printer{w: cmd.OutOrStdout()}
	out.line("the proof is right: event %d is in the log %s of %d leaves", e.Sequence, c.Origin, c.Size)
	out.line("  last time    %s", growth)
	_, err = io.WriteString(cmd.OutOrStdout(), "  event        "+string(p.Leaf)+"\n")
	return errors.Join(out.err, err)
}

// related holds the proof's checkpoint against the remembered one.
func (v *verification) related(cmd *cobra.Command, c transparency.Checkpoint) (string, error) {
	seen := v.memory.Seen()
	if seen == nil {
		return "nothing was remembered", nil
	}
	older, newer := *seen, c
	if older.Size > newer.Size {
		older, newer = newer, older
	}
	var proof verify.Consistency
	if older.Size != newer.Size && older.Size > 0 {
		ask := v.askConsistency()
		if ask == nil {
			return fmt.Sprintf("the remembered checkpoint has %d leaves: whether both are of one log is not told without --url or --consistency", seen.Size), nil
		}
		var err error
		if proof, err = ask(cmd.Context(), older.Size, newer.Size); err != nil {
			return "", fmt.Errorf("asking for the consistency proof from %d to %d: %w", older.Size, newer.Size, err)
		}
	}
	if err := proof.Verify(older, newer); err != nil {
		return "", err
	}
	return fmt.Sprintf("the log of %d leaves that is remembered is the same log", seen.Size), nil
}

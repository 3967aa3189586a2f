package redis

import "time"

// Wait makes the client patient, so that a busy machine does not look like an
// outage.
func (c *Client) Wait(patience time.Duration) { c.patience = patience }

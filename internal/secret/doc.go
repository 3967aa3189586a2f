// Package secret holds the type for values that must not be seen: whatever
// prints, logs or encodes one shows a placeholder instead (R37).
package secret

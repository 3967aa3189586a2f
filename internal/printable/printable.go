package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Check tells what is wrong with the text of a field, nothing where it is right:
// more than most characters (maxLength), or what is not valid, printable UTF-8
// without outer spaces (pattern).
func Check(field, text string, most int) []fault.Field {
	var wrong []fault.Field
	if utf8.RuneCountInString(text) > most {
		wrong = append(wrong, fault.Field{Field: field, Rule: "maxLength", Message: field + " must be at most " + strconv.Itoa(most) + " characters"})
	}
	hidden := strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	if hidden || !utf8.ValidString(text) || strings.TrimSpace(text) != text {
		wrong = append(wrong, fault.Field{Field: field, Rule: "pattern", Message: field + " must be printable text without outer spaces"})
	}
	return wrong
}

package ruleset

import (
	"fmt"
	"strings"
)

// Fields splits a line as iptables-restore does: at blanks, except within double
// quotes; a backslash takes the next byte as it is.
// It returns an error for a quote that is not closed.
func Fields(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	inWord, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case c == '"':
			quoted = !quoted
			inWord = true
		case !quoted && (c == ' ' || c == '\t'):
			if inWord {
				out = append(out, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("quote not closed in %q", line)
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}

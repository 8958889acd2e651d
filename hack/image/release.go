package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// release is the Debian that the machine runs, and where it has it from.
type release struct {
	codename string
	arch     string
	// sources is a text as in /etc/apt/sources.list: the entries of the release
	// itself, without those of other vendors.
	sources string
}

func machineRelease() (release, error) {
	osRelease, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return release{}, err
	}
	r := release{codename: codename(string(osRelease)), arch: runtime.GOARCH}
	if r.codename == "" {
		return release{}, errors.New("/etc/os-release names no release of Debian or Ubuntu: build the image with hack/image/Dockerfile and a container engine instead")
	}
	files, err := sourceFiles("/etc/apt")
	if err != nil {
		return release{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return release{}, err
		}
		r.sources += pick(string(text), filepath.Ext(file) == ".sources", r.codename)
	}
	if r.sources == "" {
		return release{}, fmt.Errorf("nothing below /etc/apt says where the packages of %s are", r.codename)
	}
	return r, nil
}

func sourceFiles(etc string) ([]string, error) {
	var files []string
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func codename(osRelease string) string {
	for line := range strings.Lines(osRelease) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// pick returns, in the form of lines, the entries of the release itself.
func pick(text string, stanzas bool, codename string) string {
	if stanzas {
		text = linesOf(text)
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if ofRelease(line, codename) {
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return out.String()
}

// ofRelease says whether a line "deb [OPTIONS] URI SUITE COMPONENT…" is of the
// release itself: other vendors name their suites or their components otherwise.
func ofRelease(line, codename string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
	if !ok {
		return false
	}
	if begin, end := strings.Index(rest, "["), strings.Index(rest, "]"); begin >= 0 && end > begin {
		rest = rest[end+1:]
	}
	fields := strings.Fields(rest)
	suites := []string{codename, codename + "-updates", codename + "-security", codename + "/updates"}
	return len(fields) > 2 && slices.Contains(suites, fields[1]) && slices.Contains(fields[2:], "main")
}

// linesOf turns the stanzas of a .sources file into lines.
func linesOf(text string) string {
	var out strings.Builder
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := stanzaFields(stanza)
		if !slices.Contains(strings.Fields(fields["types"]), "deb") || fields["enabled"] == "no" {
			continue
		}
		options := ""
		// A key that is written into the stanza has no form on a line: such a
		// source is some other vendor's.
		if key := fields["signed-by"]; strings.HasPrefix(key, "/") {
			options = "[signed-by=" + key + "] "
		}
		for uri := range strings.FieldsSeq(fields["uris"]) {
			for suite := range strings.FieldsSeq(fields["suites"]) {
				fmt.Fprintf(&out, "deb %s%s %s %s\n", options, uri, suite, fields["components"])
			}
		}
	}
	return out.String()
}

// stanzaFields reads "Name: value" lines, with their continuations.
func stanzaFields(stanza string) map[string]string {
	fields := map[string]string{}
	last := ""
	lines := bufio.NewScanner(strings.NewReader(stanza))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " "):
			fields[last] += line
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(name)
			fields[last] = strings.TrimSpace(value)
		}
	}
	return fields
}

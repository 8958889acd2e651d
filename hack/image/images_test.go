package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDockerfileHasTheSame holds that the Dockerfile makes what recipes says.
func TestDockerfileHasTheSame(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	installed := regexp.MustCompile(`apt-get install -y --no-install-recommends (.+) \\`).FindSubmatch(text)
	if installed == nil {
		t.Fatal("the Dockerfile installs no packages")
	}
	signpost := recipes()[0]
	got := strings.Fields(string(installed[1]))
	slices.Sort(got)
	if diff := cmp.Diff(signpost.packages, got); diff != "" {
		t.Errorf("packages (-recipes +Dockerfile):\n%s", diff)
	}
	for _, want := range []string{
		"-o /signpost " + signpost.program,
		`ENTRYPOINT ["` + programDir + "/" + signpost.name + `"]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Dockerfile does not say %q", want)
		}
	}
}

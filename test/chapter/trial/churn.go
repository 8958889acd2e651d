package trial

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Scaled is when a Deployment was told to have another number of pods.
type Scaled struct {
	At       time.Time
	Replicas int
}

// churnScript starts a curl every interval, without waiting for those before,
// and prints for each when it began, its exit code, the seconds that it took
// and what it says of an error.
const churnScript = `
one() {
  begin=$(date +%%s%%N)
  curl -s -o /dev/null --max-time 5 -w "$begin %%{exitcode} %%{time_total} %%{errormsg}\n" %s
}
i=0
while [ $i -lt %d ]; do one & sleep %.4f; i=$((i+1)); done
wait
`

// startCost is about what a curl and its date take to start: the loop has to
// sleep so much less between two of them.
const startCost = 4 * time.Millisecond

// Churn runs n curls, spread over the time, from the client pod through the
// cluster IP, while the Deployment is scaled to 10 and to 2 in turn, rounds
// times each.
func (b *Bench) Churn(ctx context.Context, n, rounds int, over time.Duration) (Tally, []Scaled, error) {
	script := fmt.Sprintf(churnScript, b.URL(), n, (over/time.Duration(n) - startCost).Seconds())
	type output struct {
		text string
		err  error
	}
	curls := make(chan output, 1)
	quiet := b.Quiet()
	go func() {
		text, err := quiet.Kubectl(ctx, "exec", "-n", b.Namespace, client, "--", "bash", "-c", script)
		curls <- output{text, err}
	}()
	var scaled []Scaled
	step := over / time.Duration(2*rounds)
	for range rounds {
		for _, replicas := range []int{10, 2} {
			if err := b.Scale(ctx, replicas); err != nil {
				return Tally{}, scaled, err
			}
			scaled = append(scaled, Scaled{time.Now(), replicas})
			select {
			case <-ctx.Done():
				return Tally{}, scaled, ctx.Err()
			case <-time.After(step):
			}
		}
	}
	out := <-curls
	if out.err != nil {
		return Tally{}, scaled, out.err
	}
	shots, err := parseCurls(out.text)
	return Count(shots), scaled, err
}

func parseCurls(text string) ([]lab.Shot, error) {
	var shots []lab.Shot
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(f) < 3 {
			return nil, fmt.Errorf("line of curl: %q, want three fields or more", line)
		}
		begin, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line of curl: begin: %w", err)
		}
		took, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("line of curl: time: %w", err)
		}
		s := lab.Shot{Begin: time.Unix(0, begin)}
		s.End = s.Begin.Add(time.Duration(took * float64(time.Second)))
		if f[1] != "0" {
			s.Err = fmt.Sprintf("curl exit code %s: %s", f[1], strings.Join(f[3:], ""))
		}
		shots = append(shots, s)
	}
	return shots, nil
}

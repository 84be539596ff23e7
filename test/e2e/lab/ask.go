package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Target is a port that a prober is asked to try: an answer must come by TCP, UDP or SCTP.
type Target struct {
	Protocol string `json:"protocol"`
	// Address and port.
	Address string `json:"address"`
}

// Ask has a prober (serve -control) try targets, all at once, and tells which of them answered in time. The question comes from
// a host: to pods from their own node, from which they are open to everything.
func (c *Cluster) Ask(ctx context.Context, host, control string, timeout time.Duration, targets []Target) ([]bool, error) {
	body, err := json.Marshal(struct {
		Timeout time.Duration `json:"timeout"`
		Targets []Target      `json:"targets"`
	}{timeout, targets})
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", control, err)
	}
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+control+"/probe", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", control, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: c.Dialer(host), DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", control, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", control, err)
	}
	var answers []bool
	if err := json.Unmarshal(text, &answers); err != nil || len(answers) != len(targets) {
		return nil, fmt.Errorf("asking %s: %s: %s", control, response.Status, text)
	}
	return answers, nil
}

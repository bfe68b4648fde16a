// Loads docker-compose.yml as Docker Compose does, by its own library: once without any variable and once with all that
// .env.example shows, which must come to the same. Arguments: both files.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if err := check(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(file, example string) error {
	bare, err := load(file, nil)
	if err != nil {
		return err
	}
	shown, err := shownIn(example)
	if err != nil {
		return err
	}
	full, err := load(file, shown)
	if err != nil {
		return fmt.Errorf("with the values of %s: %w", example, err)
	}
	one, err := bare.MarshalYAML()
	if err != nil {
		return err
	}
	other, err := full.MarshalYAML()
	if err != nil {
		return err
	}
	ours, theirs := strings.Split(string(one), "\n"), strings.Split(string(other), "\n")
	for line := range ours {
		if line >= len(theirs) || ours[line] != theirs[line] {
			return fmt.Errorf("%s shows another value than is the default of %s: %s", example, file, ours[line])
		}
	}
	fmt.Printf("%d services: %s\n", len(bare.Services), strings.Join(bare.ServiceNames(), " "))
	return nil
}

// load gives the project of all profiles, validated against the specification's schema and for what refers to what.
func load(file string, variables []string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"*"}), cli.WithEnv(variables))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// shownIn gives the variables that are commented out in a file, as NAME=value.
func shownIn(example string) ([]string, error) {
	text, err := os.ReadFile(example)
	if err != nil {
		return nil, err
	}
	lines := regexp.MustCompile(`(?m)^# ?([A-Z_]+=.*)$`).FindAllSubmatch(text, -1)
	if len(lines) == 0 {
		return nil, errors.New(example + " shows no variable")
	}
	var uncommented bytes.Buffer
	for _, line := range lines {
		uncommented.Write(append(line[1], '\n'))
	}
	values, err := dotenv.Parse(&uncommented)
	if err != nil {
		return nil, err
	}
	var variables []string
	for name, value := range values {
		variables = append(variables, name+"="+value)
	}
	return variables, nil
}

module git.sentryagent.ai/sentryagent-idp

go 1.26.0

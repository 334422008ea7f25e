<?php

/**
 * `php listen.php URL OPTIONS`: the client of the package as the tests drive it. Prints a JSON line for each message, error
 * and change of state (with the node), and the positions behind each message. OPTIONS is JSON: topics, last, since, ssl, ticket (a URL that
 * gives one), authenticate, headers, presence (a topic), request.
 */

declare(strict_types=1);

use FastifyPushBridge\Client;
use FastifyPushBridge\Client\Options;
use FastifyPushBridge\PushException;

require __DIR__ . '/../../../php/autoload.php';

// An application may have a handler that throws, whatever `@` says.
set_error_handler(static fn (int $level, string $text) => throw new ErrorException($text, 0, $level));

[, $url, $given] = $argv + [2 => '{}'];
$given = json_decode($given, true, 512, JSON_THROW_ON_ERROR);

function say(string $kind, mixed $what): void
{
    echo json_encode([$kind => $what], JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE), "\n";
}

$ticketUrl = $given['ticket'] ?? null;
$client = new Client($url, new Options(
    ticket: $ticketUrl === null ? null : fn () => (string) file_get_contents($ticketUrl),
    authenticate: isset($given['authenticate']) ? fn () => $given['authenticate'] : null,
    headers: $given['headers'] ?? [],
    since: $given['since'] ?? [],
    ssl: $given['ssl'] ?? [],
    // It comes back at once.
    random: fn () => 0.0,
));
$client->onError(fn (PushException $problem) => say('error', [$problem->errorCode, $problem->getMessage()]));
foreach ($given['topics'] ?? [] as $topic) {
    $client->subscribe($topic, $given['last'] ?? null);
}
$roster = isset($given['presence']) ? $client->presence($given['presence']) : null;
$until = microtime(true) + 600;
$state = '';
$isReady = false;
$present = null;
try {
    while (microtime(true) < $until) {
        $message = $client->next(0.05);
        if ($state !== $client->state()) {
            $state = $client->state();
            say($state, $client->welcome()['connection'] ?? null);
            say('node', $client->welcome()['node'] ?? null);
            if ($state === 'open' && isset($given['request'])) {
                say('reply', $client->request($given['request']['type'], $given['request']['payload'] ?? (object) []));
            }
        }
        if (!$isReady && array_diff($given['topics'] ?? [], array_keys($client->positions())) === []) {
            $isReady = true;
            say('ready', $client->positions());
        }
        if ($message !== null) {
            say('message', $message);
            say('positions', (object) $client->positions());
        }
        if ($roster?->isKnown() && $present !== $roster->members()) {
            $present = $roster->members();
            say('roster', ['count' => $roster->count(), 'users' => array_column($present, 'user')]);
        }
        if (($message['type'] ?? null) === 'stop') {
            $client->close(3001, 'told to');
            exit(0);
        }
    }
} catch (PushException $problem) {
    say('end', [$problem->errorCode, $problem->status, $problem->getMessage()]);
    exit(3);
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/** The address of a message: `channel:NAME`, `user:ID`, `connection:ID` or `all`. The rules are those of the nodes. */
final class Topic
{
    public const MAX_NAME_BYTES = 200;

    private const KINDS = ['channel', 'user', 'connection'];

    /** White space and control characters as the nodes see them, and what means something in Redis or in a pattern. */
    private const FORBIDDEN = '/[\x{00}-\x{20}\x{7f}-\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}'
        . '\x{3000}\x{feff}{}*]/u';

    /** Why it is no topic, as a sentence; null when it is one. */
    public static function problem(string $topic): ?string
    {
        if ($topic === 'all') {
            return null;
        }
        $kind = strstr($topic, ':', true);
        if (!in_array($kind, self::KINDS, true)) {
            return self::quote($topic) . ' is no topic: write channel:NAME, user:ID, connection:ID or all';
        }
        $problem = self::nameProblem(substr($topic, strlen($kind) + 1));
        return $problem === null ? null : self::quote($topic) . " is no topic: what follows \"$kind:\" $problem";
    }

    /** Why it cannot follow `channel:`, `user:` or `connection:`; null when it can. */
    public static function nameProblem(string $name): ?string
    {
        if ($name === '') {
            return 'is empty';
        }
        if (strlen($name) > self::MAX_NAME_BYTES) {
            return 'is longer than ' . self::MAX_NAME_BYTES . ' bytes';
        }
        return match (@preg_match(self::FORBIDDEN, $name)) {
            0 => null,
            1 => 'has white space, a control character, a brace or a star in it',
            default => 'is not UTF-8',
        };
    }

    /** @throws PushException PUSH_ERR_TOPIC */
    public static function check(string $topic): string
    {
        $problem = self::problem($topic);
        if ($problem !== null) {
            throw new PushException('PUSH_ERR_TOPIC', $problem);
        }
        return $topic;
    }

    /** Whose connections can be commanded: one slip must not close a whole channel or everybody. */
    public static function checkTarget(string $target): string
    {
        self::check($target);
        if (!self::isOf($target, 'user', 'connection')) {
            throw new PushException('PUSH_ERR_TOPIC', self::quote($target) . ' is neither user:ID nor connection:ID');
        }
        return $target;
    }

    public static function isOf(string $topic, string ...$kinds): bool
    {
        return in_array($topic === 'all' ? 'all' : strstr($topic, ':', true), $kinds, true);
    }

    public static function quote(string $text): string
    {
        // Bytes that are no UTF-8, or half a character after the cut, must not spoil the sentence.
        $short = strlen($text) > 80 ? substr($text, 0, 80) . '…' : $text;
        return (string) json_encode(
            $short,
            JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES,
        );
    }
}

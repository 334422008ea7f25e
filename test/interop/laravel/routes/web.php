<?php

declare(strict_types=1);

use App\Events\OrderShipped;
use App\Notifications\Greeting;
use FastifyPushBridge\Publisher;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Route;

// A real application logs in with a form; the session is the same.
Route::get('/login/{id}', static function (string $id) {
    Auth::loginUsingId($id);
    return ['csrf' => csrf_token()];
});
Route::post('/ship/{order}', static function (int $order) {
    broadcast(new OrderShipped($order))->toOthers();
    return [];
});
Route::post('/greet', static function (Request $request) {
    $request->user()->notify(new Greeting());
    return [];
});
// As docs/laravel.md prints it.
Route::middleware('auth')->post('/ticket', fn (Request $request, Publisher $push) => $push->ticket([
    'user' => $request->user()->getAuthIdentifier(),
    'allow' => ['channel:news', 'channel:private-orders.' . $request->user()->id],
]));
Route::get('/page', static function () {
    $csrf = csrf_token();
    $script = file_get_contents(base_path('page.js'));
    return response("<!doctype html><meta charset=\"utf-8\"><meta name=\"csrf-token\" content=\"$csrf\"><script type=\"module\">$script</script>");
});
